package element

// Block is a run of whole encoded elements of one PCollection: what a data-plane message holds, what an inbox row stores.
// Shape of Data: windowed values, nested encoding, concatenated. Whoever receives a Block must not change Data.
type Block struct {
	Data  []byte
	Count int  // elements
	MinTS Time // smallest element timestamp; MaxTime when Count is 0
	MaxTS Time // largest element timestamp; MinTime when Count is 0
}
