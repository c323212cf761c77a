package configs

// maxLike is the length in bytes from which on Closest looks for nothing.
const maxLike = 64

// Closest returns the name that takes the fewest edits to reach from word, if
// they are at most a third of its length. It is for suggestions: upper and lower
// case differ, and a long word is like nothing.
func Closest(word string, names []string) (best string, ok bool) {
	if len(word) > maxLike {
		return "", false
	}
	limit := 1 + len(word)/3
	for _, name := range names {
		if d := edits(word, name); d < limit {
			best, limit, ok = name, d, true
		}
	}
	return best, ok
}

// edits counts the bytes to insert, delete, replace or swap with their
// neighbour to turn a into b.
func edits(a, b string) int {
	var before []int // the row for i-2
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := last[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(row[j-1]+1, last[j]+1, replace)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
