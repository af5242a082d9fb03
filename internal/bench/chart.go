package bench

import (
	"fmt"
	"html/template"
	"math"
	"strings"
)

// chart is a plot with logarithmic axes, as SVG. A library would bring fonts and megabytes for it.
type chart struct {
	title, x, y string
	series      []series
	marks       []mark
}

// series is points, joined by a line, of one colour.
type series struct {
	name   string
	colour string
	points [][2]float64
	dots   bool // show the points: they were measured
	dashed bool
}

// mark is a line across the plot: at x, or at y.
type mark struct {
	name string
	x, y float64
}

const (
	chartWidth, chartHeight         = 640.0, 360.0
	leftMargin, rightMargin         = 70.0, 34.0
	topMargin, bottomMargin         = 62.0, 48.0
	colourOne, colourTwo, colourFit = "#1f6fb4", "#c4572c", "#7a8794"
)

// span is an axis over whole decades.
type span struct{ low, high float64 }

// spanOf covers the values with whole decades; false if there are none above zero.
func spanOf(values []float64) (s span, ok bool) {
	s = span{low: math.Inf(1), high: math.Inf(-1)}
	for _, v := range values {
		if v > 0 && !math.IsInf(v, 0) {
			s.low, s.high = min(s.low, math.Floor(math.Log10(v)+1e-9)), max(s.high, math.Ceil(math.Log10(v)-1e-9))
		}
	}
	if s.high == s.low {
		s.high++
	}
	return s, s.high > s.low
}

// at is where a value stands on the axis, from 0 to 1.
func (s span) at(v float64) float64 { return (math.Log10(v) - s.low) / (s.high - s.low) }

func (s span) holds(v float64) bool { return v > 0 && s.at(v) >= -1e-9 && s.at(v) <= 1+1e-9 }

// svg draws the chart; "" if there is nothing to draw.
func (c chart) svg() template.HTML {
	var xs, ys []float64
	for _, s := range c.series {
		for _, p := range s.points {
			xs, ys = append(xs, p[0]), append(ys, p[1])
		}
	}
	ax, okX := spanOf(xs)
	ay, okY := spanOf(ys)
	if !okX || !okY {
		return ""
	}
	d := drawing{ax: ax, ay: ay}
	d.printf(`<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, chartWidth, chartHeight, template.HTMLEscapeString(c.title))
	d.text(leftMargin, 18, "title", c.title)
	d.grid()
	d.text((leftMargin+chartWidth-rightMargin)/2, chartHeight-8, "middle", c.x)
	d.text(leftMargin, topMargin-8, "", c.y)
	for _, m := range c.marks {
		d.mark(m)
	}
	for _, s := range c.series {
		d.series(s)
	}
	d.legend(c.series)
	d.printf("</svg>\n")
	return template.HTML(d.b.String())
}

// drawing is an SVG in the making.
type drawing struct {
	b      strings.Builder
	ax, ay span
}

func (d *drawing) printf(format string, args ...any) { fmt.Fprintf(&d.b, format, args...) }

func (d *drawing) text(x, y float64, class, text string) {
	d.printf(`<text x="%.1f" y="%.1f" class="%s">%s</text>`, x, y, class, template.HTMLEscapeString(text))
}

func (d *drawing) line(x1, y1, x2, y2 float64, class string) {
	d.printf(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="%s"/>`, x1, y1, x2, y2, class)
}

func (d *drawing) x(v float64) float64 {
	return leftMargin + d.ax.at(v)*(chartWidth-leftMargin-rightMargin)
}

func (d *drawing) y(v float64) float64 {
	return chartHeight - bottomMargin - d.ay.at(v)*(chartHeight-topMargin-bottomMargin)
}

// grid draws a line for each decade, with its value.
func (d *drawing) grid() {
	for e := d.ax.low; e <= d.ax.high; e++ {
		x := d.x(math.Pow(10, e))
		d.line(x, topMargin, x, chartHeight-bottomMargin, "grid")
		d.text(x, chartHeight-bottomMargin+16, "middle", decade(e))
	}
	for e := d.ay.low; e <= d.ay.high; e++ {
		y := d.y(math.Pow(10, e))
		d.line(leftMargin, y, chartWidth-rightMargin, y, "grid")
		d.text(leftMargin-6, y+4, "end", decade(e))
	}
}

// decade writes a power of ten.
func decade(e float64) string {
	if e < 0 {
		return fmt.Sprintf("%.*f", int(-e), math.Pow(10, e))
	}
	return count(int(math.Pow(10, e) + 0.5))
}

func (d *drawing) mark(m mark) {
	switch {
	case d.ax.holds(m.x):
		x := d.x(m.x)
		d.line(x, topMargin, x, chartHeight-bottomMargin, "mark")
		anchor, dx := "mark", 4.0
		if d.ax.at(m.x) > 0.7 {
			anchor, dx = "mark end", -4
		}
		d.text(x+dx, topMargin+12, anchor, m.name)
	case d.ay.holds(m.y):
		y := d.y(m.y)
		d.line(leftMargin, y, chartWidth-rightMargin, y, "mark")
		d.text(leftMargin+4, y-4, "mark", m.name)
	}
}

func (d *drawing) series(s series) {
	dash := ""
	if s.dashed {
		dash = ` stroke-dasharray="5 4"`
	}
	d.printf(`<polyline fill="none" stroke="%s" stroke-width="2"%s points="`, s.colour, dash)
	sep := ""
	for _, p := range s.points {
		if d.ax.holds(p[0]) && d.ay.holds(p[1]) {
			d.printf("%s%.1f,%.1f", sep, d.x(p[0]), d.y(p[1]))
			sep = " "
		}
	}
	d.printf(`"/>`)
	if !s.dots {
		return
	}
	for _, p := range s.points {
		if d.ax.holds(p[0]) && d.ay.holds(p[1]) {
			d.printf(`<circle cx="%.1f" cy="%.1f" r="4" fill="%s"><title>%s: %s</title></circle>`,
				d.x(p[0]), d.y(p[1]), s.colour, count(int(p[0])), figure(p[1]))
		}
	}
}

// legend names the series in a row under the title.
func (d *drawing) legend(all []series) {
	x := leftMargin
	for _, s := range all {
		d.printf(`<rect x="%.1f" y="28" width="14" height="4" fill="%s"/>`, x, s.colour)
		d.text(x+20, 34, "", s.name)
		const charWidth = 6.4
		x += 36 + charWidth*float64(len([]rune(s.name)))
	}
}
