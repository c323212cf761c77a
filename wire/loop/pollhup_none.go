//go:build darwin || netbsd || openbsd

package loop

// pollHangup would ask poll(2) to tell of a peer that writes no more. Here it
// tells so by POLLHUP without being asked, or only once both directions are
// shut: a paused conn may then notice its peer when it is resumed.
const pollHangup = 0
