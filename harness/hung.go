package harness

// A harness that does not answer is killed at once: it does not end by itself, and SIGTERM waits until it is woken up. It is shut out
// already, should it wake up before.

// hurry says when to wait no longer for the harness's own end.
func (s *slot) hurry() <-chan struct{} {
	if !s.worker.Hung() {
		return s.pool.hurry
	}
	return now()
}

// now is a hurry from the beginning.
func now() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// hung words the loss of a harness that does not answer, and has the pool's user hear of it; "" for another loss.
func (s *slot) hung() string {
	if !s.worker.Hung() {
		return ""
	}
	const why = "it does not answer (it hangs, or was stopped); it is killed and started again"
	s.pool.tell(s.worker.ID(), "harness "+string(s.worker.ID())+" was lost: "+why)
	return why
}
