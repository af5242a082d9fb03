package broker

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kfake"

	"padstone/internal/fault"
)

const codeEmbedded fault.Code = "kafka-embedded"

// partitionsMax bounds the partitions of one topic: each costs memory here, whether it is used or not.
const partitionsMax = 1024

// Broker is a running broker.
type Broker struct {
	cluster *kfake.Cluster
	addr    string
}

// Option changes how a broker runs.
type Option = kfake.Opt

// Keep stores topics and group offsets in dir and reads what is there already, so that they outlast the process: what a producer
// was told to be written is on disk. StartKept also ends what was open.
func Keep(dir string) []Option { return []Option{kfake.DataDir(dir), kfake.SyncWrites()} }

// Start binds addr, "localhost:9092" for example, or port 0 for a free one, and creates the topics with the given numbers of
// partitions. Topics that clients ask for and that do not exist are created with one partition when a producer wants them. The
// address must be a loopback one: the broker lets everybody in. Errors are *fault.Error of kind Environment, code kafka-embedded.
func Start(addr string, topics map[string]int32, more ...Option) (*Broker, error) {
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fault.New(fault.Environment, codeEmbedded, "the address of the embedded broker: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil || port < 0 || port > 65535 {
		return nil, fault.New(fault.Environment, codeEmbedded, "address of the embedded broker: %q is not a port", portText)
	}
	if err := checkLoopback(host); err != nil {
		return nil, err
	}
	opts := []kfake.Opt{
		kfake.NumBrokers(1), kfake.Ports(port), kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(1), kfake.ClusterID("padstone"),
	}
	for _, name := range slices.Sorted(maps.Keys(topics)) {
		if n := topics[name]; n < 1 || n > partitionsMax {
			return nil, fault.New(fault.Environment, codeEmbedded, "topic %q of the embedded broker: %d partitions", name, n).
				WithHint("give a number from 1 to %d", partitionsMax)
		}
	}
	cluster, err := kfake.NewCluster(append(opts, more...)...)
	if err != nil {
		return nil, fault.New(fault.Environment, codeEmbedded, "the embedded broker cannot listen on %s: %w", addr, err).
			WithHint("choose another port, or stop what listens there")
	}
	b := &Broker{cluster: cluster, addr: cluster.ListenAddrs()[0]}
	for _, name := range slices.Sorted(maps.Keys(topics)) {
		if cluster.TopicInfo(name) != nil {
			continue // kept from an earlier run, see Keep
		}
		if err := b.CreateTopic(name, topics[name]); err != nil {
			cluster.Close()
			return nil, err
		}
	}
	return b, nil
}

// StartKept is Start with what an earlier broker kept in dir, which may have been killed in the middle of anything.
func StartKept(addr string, topics map[string]int32, dir string) (*Broker, error) {
	b, err := Start(addr, topics, Keep(dir)...)
	if err != nil {
		return nil, err
	}
	if err := b.settle(); err != nil {
		b.cluster.Close()
		return nil, err
	}
	return b, nil
}

func checkLoopback(host string) error {
	if host == "localhost" {
		return nil
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		return nil
	}
	return fault.New(fault.Environment, codeEmbedded, "the embedded broker listens on loopback addresses only, not on %q", host)
}

// Addr is the bootstrap server to give to clients.
func (b *Broker) Addr() string { return b.addr }

// CreateTopic adds a topic; it is an error if there is one with the name.
func (b *Broker) CreateTopic(name string, partitions int32) error {
	if !legalTopic(name) {
		return fault.New(fault.Environment, codeEmbedded, "%q is not a topic name", name).
			WithHint("use letters, digits, '.', '_' and '-', at most 249")
	}
	if err := b.cluster.CreateTopic(name, partitions, nil); err != nil {
		return fmt.Errorf("topic %q of the embedded broker: %w", name, err)
	}
	return nil
}

// legalTopic checks what a real broker would refuse. Spec: org.apache.kafka.common.internals.Topic.
func legalTopic(name string) bool {
	for _, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return len(name) > 0 && len(name) <= 249 && name != "." && name != ".."
}

// Cluster returns what is behind the broker, for tests that move leaders or break requests.
func (b *Broker) Cluster() *kfake.Cluster { return b.cluster }

// Close ends the broker and everything in it.
func (b *Broker) Close() error {
	b.cluster.Close()
	return nil
}
