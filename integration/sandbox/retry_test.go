package sandbox

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestRetry(t *testing.T) {
	defer func(pauses []time.Duration) { retryAfter = pauses }(retryAfter)
	retryAfter = []time.Duration{0, 0}
	hiccup := errors.New("hiccup")
	for _, test := range []struct {
		fails, calls int
		want         error
	}{{0, 1, nil}, {1, 2, nil}, {2, 3, nil}, {3, 3, hiccup}} {
		calls := 0
		err := Retry(t.Context(), func() error {
			if calls++; calls <= test.fails {
				return hiccup
			}
			return nil
		})
		if calls != test.calls || err != test.want {
			t.Errorf("of one that fails %d times: %d calls, %v", test.fails, calls, err)
		}
	}

	retryAfter = []time.Duration{time.Hour}
	ctx, cancel := context.WithCancel(t.Context())
	if err := Retry(ctx, func() error { cancel(); return hiccup }); err != hiccup {
		t.Errorf("when all is to end: %v", err)
	}
}
