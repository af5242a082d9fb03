package bench

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// About says where and with what something was measured.
type About struct {
	At       time.Time `json:"at"`
	Padstone string    `json:"padstone"`
	Machine  string    `json:"machine"`
	Python   string    `json:"python,omitempty"`
	Beam     string    `json:"apache_beam,omitempty"`
}

// String is one line for people.
func (a About) String() string {
	parts := []string{"padstone " + a.Padstone}
	if a.Beam != "" {
		parts = append(parts, "apache-beam "+a.Beam)
	}
	if a.Python != "" {
		parts = append(parts, "Python "+a.Python)
	}
	return strings.Join(append(parts, a.Machine, a.At.Format("2006-01-02 15:04")), " · ")
}

// unknown is what people read where nothing was measured.
const unknown = "n/a"

// figure writes a number with three digits.
func figure(v float64) string {
	switch {
	case v >= 999.5 || v <= -999.5:
		return count(int(v + 0.5))
	case v >= 99.95 || v <= -99.95:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 9.995 || v <= -9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}

func optional(v *float64) string {
	if v == nil {
		return unknown
	}
	return figure(*v)
}

// count writes a whole number with its thousands apart.
func count(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + " " + text[i:]
	}
	return text
}

func percent(v float64) string {
	if v > 0 && v < 0.00995 {
		return strconv.FormatFloat(v*100, 'f', 1, 64) + " %"
	}
	return strconv.FormatFloat(v*100, 'f', 0, 64) + " %"
}

func millis(v float64) string {
	if v >= 10000 {
		return figure(v/1000) + " s"
	}
	if v > 0 && v < 0.01 {
		return figure(v*1000) + " µs"
	}
	return strings.TrimSuffix(figure(v), ".00") + " ms"
}

func megabytes(b *int64) string {
	if b == nil {
		return unknown
	}
	return fmt.Sprintf("%.0f", float64(*b)/(1<<20))
}
