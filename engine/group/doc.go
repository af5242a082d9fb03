// Package group is the GroupByKey of a stage: it gathers the values of each key and window and emits panes KV<K, iterable<V>>.
//
// There are two ways in. Machine.Process takes elements as they come, keeps them in rows and fires panes by trigger; what it wants
// to be woken for it sets as timers of package timer, which Machine.Timers handles. Machine.GroupAll takes all elements of a key
// group at once, when the input is bounded and the trigger fires once (BatchEligible, EndEligible), and keeps nothing; what is over
// its budget it sorts in files. Either way the values of a pane are copied to where they are put out: the few inline, the many into
// a content, page by page, so that no pane is ever whole in memory.
//
// Rows, all within one key group of one stage. A window's encoding shows its own end, and begins with the end of the window:
//
//	Trigger  window, key                   → cell (see cell.go): pane, trigger, hold                       not merging
//	Group    window, len+key, chunk u64    → values, nested encoding, concatenated                         not merging
//	Trigger  key                           → sessions of the key: window, addresses, cell (see sessions.go)  merging
//	Group    len+key, address u64, chunk   → values                                                        merging
//
// A session keeps its values where they were first put: merging hands on the address and moves nothing. Windows that a function of the
// user's merges are kept like sessions; Env.Merge, called once in a call of Process, asks the function about the keys for which new
// windows have come.
//
// Invariants: what is emitted is never a decoded value; after the watermark has passed a window's end by the allowed lateness
// nothing of it is left, no row, timer or hold; a trigger is evaluated once for a key and window in a call, or after each element if
// that shows (trigger.Program.ByElement); output depends on the calls alone. Pure: no clock, no I/O beyond rows.Tx, no goroutines. A
// Machine is immutable and safe for concurrent use.
//
// Spec: Beam's model of triggers and panes; where SDKs differ, ReduceFnRunner, WatermarkHold and PaneInfoTracker of Java
// runners-core, but for lateness of sessions, which is judged after merging, and for elements of a closed session within the
// allowed lateness, which are dropped as those of any closed window are.
package group
