// Package engine runs jobs on this machine. It implements jobserver.Executor.
//
// A job is one goroutine, its driver: it owns the scheduler and the only write path. It tells the scheduler what happened, starts
// the bundles that the scheduler asks for, commits what they bring, and tells the scheduler again. Everything that leaves the
// system (publishing to a sink, finalising bundles, committing source positions, the terminal state) waits until the commit
// behind it is durable.
//
// The path of a bundle: scheduler.Start → a goroutine of package bundle → Result → store.Commit → scheduler.Committed. A bundle
// that fails for the environment's fault waits and runs again; one that fails for the user's code fails the job, with the user's
// traceback.
//
// A TestStream's script is the processing-time clock of its job, and its next event waits until all effects have happened, too.
//
// A job whose server goes away is not terminal: Recover takes it up from its store, with the bundles that were not committed run
// again.
//
// Goroutines of a job, all waited for by its end: the driver; one for each bundle in flight; one publisher for each sink; one for
// effects that wait for durability; one that starts the harnesses. Lock order: none; the driver's state belongs to the driver, and
// others reach it through its queue.
package engine
