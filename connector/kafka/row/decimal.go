package row

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// Decimal is the number Unscaled / 10^Scale.
type Decimal struct {
	Unscaled *big.Int
	Scale    int
}

// digitsMax bounds the zeros that String writes out.
const digitsMax = 100

// String returns the number as a decimal fraction with all its digits, "-100.123" or "0.0"; with an exponent, "5E+1000", where that
// would add more than a few zeros.
func (d Decimal) String() string {
	digits := new(big.Int).Abs(d.Unscaled).String()
	sign := ""
	if d.Unscaled.Sign() < 0 {
		sign = "-"
	}
	switch {
	case d.Scale == 0:
		return sign + digits
	case d.Scale < 0 || d.Scale > len(digits)+digitsMax:
		return sign + digits + "E" + fmt.Sprintf("%+d", -d.Scale)
	}
	if zeros := d.Scale + 1 - len(digits); zeros > 0 {
		digits = strings.Repeat("0", zeros) + digits
	}
	point := len(digits) - d.Scale
	return sign + digits[:point] + "." + digits[point:]
}

// MarshalJSON writes the number as a string, since JSON's numbers are floats to most readers.
func (d Decimal) MarshalJSON() ([]byte, error) { return strconv.AppendQuote(nil, d.String()), nil }

// readDecimal reads a scale, a varint of 32 bits, and the length-prefixed two's complement of the unscaled number, big endian.
// Spec: BigDecimalCoder (Java core), coder_impl.py DecimalCoderImpl.
func readDecimal(b []byte) (any, []byte, error) {
	scale, b, err := uvarint(b)
	if err != nil {
		return nil, nil, err
	}
	if signed := int64(scale); signed > math.MaxInt32 && scale > math.MaxUint32 || signed < math.MinInt32 {
		return nil, nil, fmt.Errorf("a decimal of scale %d", signed)
	}
	digits, rest, err := takeBytes(b)
	if err != nil {
		return nil, nil, err
	}
	n := new(big.Int).SetBytes(digits)
	if len(digits) > 0 && digits[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(len(digits))*8))
	}
	return Decimal{Unscaled: n, Scale: int(int32(uint32(scale)))}, rest, nil
}
