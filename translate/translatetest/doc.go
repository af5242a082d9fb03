// Package translatetest breaks pipelines for tests: what it makes of one that an SDK has built still parses, and little else holds of
// it. Ids dangle, coders and composites nest in themselves, collections have two producers, payloads are cut off, windowing strategies
// and coders are put in from somewhere else.
//
// All choices come from the caller, so that a fuzzer can steer them and a seed can repeat them. No goroutines.
package translatetest
