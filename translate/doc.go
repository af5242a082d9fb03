// Package translate compiles a Beam pipeline proto into a plan: the only way from the user's language to the engine's.
//
// Compile runs its passes in the order in which compile.go lists them:
//
//	validate   requirements, roots
//	read       walk composites to leaves; expand combines and splittable DoFns; recognise native transforms (leaves.go, …)
//	order      topological order, also with respect to side inputs; cycles are refused (order.go)
//	type       effective coders of grouped collections, windowing of every collection (types.go)
//	fuse       leaves to stages, flattens and reshuffles to edges (fuse.go, junction.go)
//	connect    stage and edge ids, edges, outputs (connect.go)
//	describe   bundle descriptors, state cells, timer families, side inputs (describe.go, pardo.go)
//
// Names. A node is a leaf after expansion. A junction is a collection that no stage computes: the output of a Flatten whose inputs
// come from several stages, or of a Reshuffle. Whoever produces its inputs writes to the edges of its consumers. The wire coder of
// a collection is its coder with everything that the runner cannot frame wrapped in a length prefix; it is used wherever the
// collection crosses a stage boundary, so that the key in an element, in a state key and in a timer is the same bytes.
//
// Invariants: the input is never changed; no panic on any input; every leaf is in exactly one stage; a stage has one environment
// and one main input; no stage depends on itself through main or side inputs; the result does not depend on map order.
// What is not supported is refused here with a code (errors.go, docs/errors) and the user's transform name.
//
// Not here: artifacts, harness processes, anything at run time. Pure: no I/O, no clock, no goroutine.
package translate
