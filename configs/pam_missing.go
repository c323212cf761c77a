//go:build !pam || !cgo

package configs

// hasPAM says whether the binary can ask PAM: see package pool/pam, which has
// the same build constraint.
const hasPAM = false
