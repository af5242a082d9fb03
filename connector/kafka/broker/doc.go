// Package broker runs a Kafka broker inside the process, for trying Padstone out (`padstone serve --embedded-kafka`) and for tests.
//
// It speaks the Kafka protocol on a loopback address and keeps topics in memory, so that they are gone when it closes, or with Keep
// in a directory. It is not meant for load. Goroutines: the broker's own, which end with Close.
package broker
