// Package expansion is the expansion service of the job server: it turns cross-language transforms that Padstone runs itself into
// native ones, and passes all others on to expansion services that the server's configuration names.
//
// Native are the Kafka transforms that the Python and Go SDKs send to the Java expansion service. The answer is a fragment
// with one transform of URN padstone:transform:kafka_read:v1 or padstone:transform:kafka_write:v1 and no environment, so that the
// pipeline needs neither Java nor a container. Every field of the request's configuration is honoured or refused by name, and the
// configuration is checked in full here, by the connector's own Validate, so that a mistake shows where the user wrote it.
//
// What another service answers is given to the client as it came, environments and requirements included; where an SDK then asks for
// the artifacts of these environments, it asks here, and is served from the service that named them (docs/decisions/0018). That memory
// is lost in a restart: the client builds its pipeline again.
//
// A refusal is an ExpansionResponse with error text, as the protocol has it; it carries code and hint. No goroutines beyond gRPC's.
package expansion
