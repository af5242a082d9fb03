// Package window does arithmetic on encoded windows: their bounds, when their state is collected, which sessions merge, and which
// side input window a main window looks at. It never assigns windows: SDKs do.
//
// Windows are the bytes of the wire (see plan.WindowCoding). An interval is half open, [start, end); its maximum timestamp is the
// last millisecond inside it. Pure.
package window
