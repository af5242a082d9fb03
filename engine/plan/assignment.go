package plan

// Assignment is a transform that does nothing but assign windows, which the runner does in its place on the way to an edge.
type Assignment struct {
	PCollection string       // what the transform puts out; elements are counted under it
	Windowing   *Windowing   // Global, Fixed, Sliding or Sessions
	From        WindowCoding // of the elements as they come
}
