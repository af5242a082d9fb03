// Package timer keeps the timers of one key group of one stage in its rows: those of user code and those of package group.
//
// A timer is one row of rows.TimerID, which has the say, and one row of rows.TimerTS, which puts it in firing order. Setting or
// clearing a timer acts on whatever an earlier bundle left: the last write wins, and the row of the old firing time goes with it,
// so that what Due returns is never stale. A set timer holds the stage's output watermark at its hold time.
//
// It does not decide when a timer is due (the caller passes a watermark or a clock), nor which bundle fires it. Pure: no clock,
// no I/O beyond rows.Tx, no goroutines. A row that does not read back is a fault of kind Corruption, code corrupt-row.
package timer
