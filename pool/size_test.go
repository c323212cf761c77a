package pool

import (
	"testing"
	"unsafe"
)

// Ten thousand idle clients are ten thousand of these, so what is added must be
// worth it: the next size that Go allocates is 288.
func TestClientSize(t *testing.T) {
	if n := unsafe.Sizeof(Client{}); n > 256 {
		t.Errorf("a client takes %d bytes, and may take 256", n)
	}
}
