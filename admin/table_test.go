package admin

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
)

// The binary encodings, read by another implementation of the types.
func TestBinaryValues(t *testing.T) {
	types := pgtype.NewMap()
	numbers := []int64{
		0, 1, -1, 7, 9999, 10000, 10001, 99990000, 100000000, 123456789, -20000, 1e12, 1e16 + 1,
		math.MaxInt32, math.MinInt32, math.MaxInt32 + 1, math.MaxInt64, math.MinInt64,
	}
	for _, n := range numbers {
		for _, typ := range []oid{oidInt8, oidNumeric} {
			var got int64
			encoded := number(n).appendBinary(nil, typ)
			if err := types.Scan(uint32(typ), pgtype.BinaryFormatCode, encoded, &got); err != nil || got != n {
				t.Errorf("%d as type %d: % x is read as %d, %v", n, typ, encoded, got, err)
			}
		}
		var got int32
		encoded := number(n).appendBinary(nil, oidInt4)
		want := int32(max(math.MinInt32, min(n, math.MaxInt32)))
		if err := types.Scan(uint32(oidInt4), pgtype.BinaryFormatCode, encoded, &got); err != nil || got != want {
			t.Errorf("%d as int4: % x is read as %d, %v", n, encoded, got, err)
		}
	}
}

// Postgres leaves trailing zero digits out of a numeric.
func TestNumericIsCanonical(t *testing.T) {
	for n, want := range map[int64][]uint16{
		0:         {0, 0, 0, 0},
		10000:     {1, 1, 0, 0, 1},
		100000000: {1, 2, 0, 0, 1},
		-12345:    {2, 1, 0x4000, 0, 1, 2345},
	} {
		got := appendNumeric(nil, n)
		var words []byte
		for _, w := range want {
			words = binary.BigEndian.AppendUint16(words, w)
		}
		if string(got) != string(words) {
			t.Errorf("%d: % x, want % x", n, got, words)
		}
	}
}

func TestTextValues(t *testing.T) {
	for _, test := range []struct {
		v    value
		want string
	}{
		{number(int64(math.MinInt64)), "-9223372036854775808"},
		{number(uint64(math.MaxUint64)), "9223372036854775807"},
		{number(0), "0"},
		{text("a\xffb"), "a\uFFFDb"},
		{bit(true), "1"},
		{bit(false), "0"},
	} {
		if got := string(test.v.appendText(nil)); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}
