// Package config is the configuration of the native Kafka source and sink: the JSON that the expansion service writes into the
// pipeline and that package kafka reads back. It is apart from package kafka so that the job server can write it without linking
// a Kafka client.
//
// It checks what can be checked without knowing Kafka's client properties; those are package kafka's. Pure: no I/O, no goroutine.
// Errors are *fault.Error of kind Pipeline, codes kafka-option, kafka-deserializer and kafka-serializer.
package config
