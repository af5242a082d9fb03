// Package store is the durable state of one job: a pebble database and the only code that writes it.
//
// Store.Commit turns one finished bundle into one atomic batch: inputs consumed, outputs, state, timers, holds, positions, outbox,
// metrics. Commits are applied without sync, so that consumers see them at once; one write-ahead log keeps the history
// prefix-consistent: if a commit survives a crash, so does every commit before it. A syncer advances the durability frontier, and
// whoever shows something to the outside waits for it (WaitDurable). kill -9 may lose the commits above the frontier; nobody
// outside has seen them.
//
// Not here: what the rows mean (package rows and its owners), scheduling. Goroutines: one syncer, stopped by Close. A write error
// is fatal: the store refuses every later commit, so that memory and disk cannot drift apart. Errors: fault.Environment for the
// disk, fault.Corruption for rows that do not read back.
package store
