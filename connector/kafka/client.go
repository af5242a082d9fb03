package kafka

import (
	"context"
	"encoding/hex"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"padstone/internal/fault"
)

// Limits of opening. A source or sink says within openTimeout what is wrong.
const (
	openTimeout      = 8 * time.Second
	missingTopicWait = 2 * time.Second // a topic that was just made may not be known to every broker yet
	metadataRetry    = 200 * time.Millisecond
)

// cluster is a client with what is known about its connections.
type cluster struct {
	client  *kgo.Client
	admin   *kadm.Client
	servers string
	hook    *connections
}

// newCluster makes a client; it does not connect yet.
func newCluster(s *settings, more ...kgo.Opt) (*cluster, error) {
	hook := &connections{}
	client, err := kgo.NewClient(slices.Concat(s.opts, more, []kgo.Opt{kgo.WithHooks(hook)})...)
	if err != nil {
		return nil, fault.New(fault.Pipeline, codeProperty, "the Kafka client does not take the configuration: %w", err)
	}
	return &cluster{client: client, admin: kadm.NewClient(client), servers: strings.Join(s.servers, ","), hook: hook}, nil
}

// connections remembers how the last attempt to connect to a broker ended. It is a hook of the client, called from its goroutines.
type connections struct {
	mu struct {
		sync.Mutex
		err error // nil after a success
	}
}

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (c *connections) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if errors.Is(err, context.Canceled) {
		return // a request was given up, which says nothing about the broker
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.err = err
}

func (c *connections) last() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.err
}

// openError turns the error of a request while opening into what the user can act on.
func (c *cluster) openError(err error) error {
	if last := c.hook.last(); last != nil && (isTimeout(err) || isAuth(last)) {
		err = last
	}
	if isAuth(err) {
		return fault.New(fault.Environment, codeAuth, "brokers %s: %w", c.servers, err).
			WithHint("check sasl.jaas.config, sasl.mechanism and the user's rights")
	}
	var broker *kerr.Error
	if errors.As(err, &broker) {
		return fault.New(fault.Environment, codeRead, "brokers %s: %w", c.servers, err)
	}
	return fault.New(fault.Environment, codeUnreachable, "no broker of %s answered: %w", c.servers, err).
		WithHint("check bootstrap.servers, security.protocol and credentials, and that the broker's advertised address is " +
			"one that can be reached from here")
}

func isTimeout(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// topicInfo is what brokers say of a topic.
type topicInfo struct {
	partitions int32
	id         topicID
}

// topicID tells a topic from another one that was made under its name later; "" where brokers do not give topics ids, before Kafka 2.8.
type topicID string

// partitions returns what brokers say of each topic. With create, topics that do not exist are made by brokers that have
// auto.create.topics.enable. A topic that stays missing is an error that names it.
func (c *cluster) partitions(ctx context.Context, topics []string, create bool) (map[string]topicInfo, error) {
	started := time.Now()
	for {
		found, pending, err := c.describe(ctx, topics, create)
		if err != nil {
			return nil, err
		}
		if pending == nil {
			return found, nil
		}
		if isUnknownTopic(pending.err) && time.Since(started) > missingTopicWait {
			return nil, missingTopic(pending.topic, pending.err)
		}
		select {
		case <-time.After(metadataRetry):
		case <-ctx.Done():
			return nil, fault.New(fault.Environment, codeUnreachable, "topic %q of brokers %s: %w", pending.topic, c.servers, pending.err)
		}
	}
}

// pendingTopic is a topic that may yet come to be.
type pendingTopic struct {
	topic string
	err   error
}

// describe asks once. It returns a pendingTopic when asking again may help.
func (c *cluster) describe(ctx context.Context, topics []string, create bool) (map[string]topicInfo, *pendingTopic, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = create
	for _, name := range topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, c.client)
	if err != nil {
		return nil, nil, c.openError(err)
	}
	found := make(map[string]topicInfo, len(topics))
	for _, t := range resp.Topics {
		name := ""
		if t.Topic != nil {
			name = *t.Topic
		}
		switch err := kerr.ErrorForCode(t.ErrorCode); {
		case err == nil && len(t.Partitions) > 0:
			found[name] = topicInfo{int32(len(t.Partitions)), idOf(t.TopicID)}
		case err == nil:
			return nil, &pendingTopic{name, kerr.LeaderNotAvailable}, nil
		case isAuth(err):
			return nil, nil, fault.New(fault.Environment, codeAuth, "topic %q: %w", name, err)
		case isUnknownTopic(err), kerr.IsRetriable(err):
			return nil, &pendingTopic{name, err}, nil
		default:
			return nil, nil, fault.New(fault.Environment, codeTopic, "topic %q: %w", name, err)
		}
	}
	for _, name := range topics {
		if found[name].partitions == 0 {
			return nil, &pendingTopic{name, kerr.UnknownTopicOrPartition}, nil
		}
	}
	return found, nil, nil
}

// fetchesByID reports whether brokers are asked for records by the id of their topic (Kafka 3.1, KIP-516). Then those of a topic that
// was made anew under the name are never taken for those that follow; else nothing tells at which record a reader came to the new topic.
func (c *cluster) fetchesByID(ctx context.Context) (bool, error) {
	const fetch, byID = 1, 13
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = clientID, "1"
	resp, err := req.RequestWith(ctx, c.client)
	if err != nil {
		return false, c.openError(err)
	}
	for _, key := range resp.ApiKeys {
		if key.ApiKey == fetch {
			return key.MaxVersion >= byID, nil
		}
	}
	return false, nil
}

func idOf(id [16]byte) topicID {
	if id == [16]byte{} {
		return ""
	}
	return topicID(hex.EncodeToString(id[:]))
}

// retrying calls ask again while its error is one that passes by itself, such as a group coordinator that a new cluster has yet to
// choose, until ctx ends; then it returns that error.
func retrying[T any](ctx context.Context, ask func() (T, error)) (T, error) {
	for {
		out, err := ask()
		var broker *kerr.Error
		if err == nil || !errors.As(err, &broker) || !broker.Retriable || isUnknownTopic(err) {
			return out, err
		}
		select {
		case <-time.After(metadataRetry):
		case <-ctx.Done():
			return out, err
		}
	}
}
