package kafka

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"padstone/internal/fault"
)

// metadataAgeMin is how soon the client may ask again where partitions are, for example when one has moved.
const metadataAgeMin = 250 * time.Millisecond

// settings is what a set of Kafka properties comes to.
type settings struct {
	servers []string
	opts    []kgo.Opt

	security security
	backoff  time.Duration // retry.backoff.ms; 0: Kafka's default
	maxWait  time.Duration // retry.backoff.max.ms

	consumer consumerSettings
	producer producerSettings
}

// property says what one property does. A nil apply takes a property that has nothing to do here; then why says why.
type property struct {
	apply func(s *settings, value string) error
	why   string
}

// without is a property that is accepted and has no effect.
func without(why string) property { return property{why: why} }

// errValue is what the typed helpers return; the caller adds the property's name.
func errValue(want, value string) error {
	return errors.New("is " + strconv.Quote(value) + ", which is not " + want)
}

func oneOf(set func(*settings, string), allowed ...string) property {
	return property{apply: func(s *settings, v string) error {
		if !slices.Contains(allowed, v) {
			return errValue("one of "+strings.Join(allowed, ", "), v)
		}
		set(s, v)
		return nil
	}}
}

func text(set func(*settings, string)) property {
	return property{apply: func(s *settings, v string) error { set(s, v); return nil }}
}

func number(low, high int64, set func(*settings, int64)) property {
	return property{apply: func(s *settings, v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < low || n > high {
			return errValue("a number from "+strconv.FormatInt(low, 10)+" to "+strconv.FormatInt(high, 10), v)
		}
		set(s, n)
		return nil
	}}
}

// millis is a span in milliseconds.
func millis(low, high time.Duration, set func(*settings, time.Duration)) property {
	return number(low.Milliseconds(), high.Milliseconds(), func(s *settings, n int64) {
		set(s, time.Duration(n)*time.Millisecond)
	})
}

func boolean(set func(*settings, bool)) property {
	return property{apply: func(s *settings, v string) error {
		switch strings.ToLower(v) {
		case "true", "false":
			set(s, strings.EqualFold(v, "true"))
			return nil
		}
		return errValue("true or false", v)
	}}
}

// option is a property that is one option of the client.
func option[T any](make func(low, high int64, set func(*settings, T)) property, low, high int64, opt func(T) kgo.Opt) property {
	return make(low, high, func(s *settings, v T) { s.opts = append(s.opts, opt(v)) })
}

// parse applies the properties in the order of their names, so that the first error is always the same one.
func parse(given map[string]string, known map[string]property) (*settings, error) {
	s := &settings{}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		p, ok := known[name]
		if !ok {
			return nil, fault.New(fault.Pipeline, codeProperty, "property %q is not supported", name).
				WithHint("take the property out of the configuration; docs/kafka.md lists those that are understood")
		}
		if p.apply == nil {
			continue
		}
		if err := p.apply(s, strings.TrimSpace(given[name])); err != nil {
			return nil, badProperty(name, err)
		}
	}
	if len(s.servers) == 0 {
		return nil, fault.New(fault.Pipeline, codeProperty, "property \"bootstrap.servers\" is missing").
			WithHint("name at least one broker as host:port")
	}
	s.opts = append(s.opts, kgo.RetryBackoffFn(backoff(s.backoff, s.maxWait)))
	if err := s.security.resolve(s); err != nil {
		return nil, err
	}
	s.opts = append(s.opts, kgo.SeedBrokers(s.servers...), kgo.DisableClientMetrics(), kgo.MetadataMinAge(metadataAgeMin))
	return s, nil
}

// check asks the client whether it takes the options, so that a value out of its range is refused early.
func (s *settings) check() error {
	if err := kgo.ValidateOpts(s.opts...); err != nil {
		return fault.New(fault.Pipeline, codeProperty, "the Kafka client does not take the configuration: %w", err)
	}
	return nil
}

func badProperty(name string, err error) *fault.Error {
	if f := fault.Of(err); f != nil {
		return f
	}
	return fault.New(fault.Pipeline, codeProperty, "property %q %w", name, err)
}

// backoff doubles from low (default 100 ms) up to high (default 1 s), as Kafka's client does. Spec: KIP-580.
func backoff(low, high time.Duration) func(int) time.Duration {
	if low <= 0 {
		low = 100 * time.Millisecond
	}
	if high <= 0 {
		high = time.Second
	}
	return func(tries int) time.Duration {
		return min(high, low<<min(max(tries-1, 0), 20))
	}
}

// commonProperties are those of consumer and producer alike. Spec: the configuration pages of kafka.apache.org/documentation.
func commonProperties() map[string]property {
	known := map[string]property{
		"bootstrap.servers": {apply: setServers},
		"client.id":         text(func(s *settings, v string) { s.opts = append(s.opts, kgo.ClientID(v)) }),
		"request.timeout.ms": millis(100*time.Millisecond, 15*time.Minute, func(s *settings, d time.Duration) {
			s.opts = append(s.opts, kgo.RequestTimeoutOverhead(d), kgo.ProduceRequestTimeout(d))
		}),
		"connections.max.idle.ms": millis(100*time.Millisecond, 15*time.Minute, func(s *settings, d time.Duration) {
			s.opts = append(s.opts, kgo.ConnIdleTimeout(d))
		}),
		"metadata.max.age.ms": millis(time.Second, time.Hour, func(s *settings, d time.Duration) {
			s.opts = append(s.opts, kgo.MetadataMaxAge(d))
		}),
		"retry.backoff.ms":     millis(time.Millisecond, time.Hour, func(s *settings, d time.Duration) { s.backoff = d }),
		"retry.backoff.max.ms": millis(time.Millisecond, time.Hour, func(s *settings, d time.Duration) { s.maxWait = d }),
		"socket.connection.setup.timeout.ms": millis(time.Millisecond, time.Hour, func(s *settings, d time.Duration) {
			s.security.dialTimeout = d
		}),

		"socket.connection.setup.timeout.max.ms":   without("the setup timeout does not grow here"),
		"reconnect.backoff.ms":                     without("connections are retried with retry.backoff.ms"),
		"reconnect.backoff.max.ms":                 without("connections are retried with retry.backoff.max.ms"),
		"receive.buffer.bytes":                     without("sockets keep the buffers of the operating system"),
		"send.buffer.bytes":                        without("sockets keep the buffers of the operating system"),
		"client.dns.lookup":                        without("every address of a name is tried"),
		"default.api.timeout.ms":                   without("opening has a limit of its own; later calls are retried"),
		"metadata.recovery.strategy":               without("the bootstrap servers are always tried again"),
		"metadata.recovery.rebootstrap.trigger.ms": without("the bootstrap servers are always tried again"),
		"auto.include.jmx.reporter":                without("there is no JVM"),
		"enable.metrics.push":                      without("client metrics are not pushed to brokers"),
		"metrics.num.samples":                      without("there are no client-side metric samples"),
		"metrics.recording.level":                  without("there are no client-side metric samples"),
		"metrics.sample.window.ms":                 without("there are no client-side metric samples"),
	}
	maps.Copy(known, securityProperties())
	return known
}

func setServers(s *settings, v string) error {
	for server := range strings.SplitSeq(v, ",") {
		if server = strings.TrimSpace(server); server != "" {
			s.servers = append(s.servers, server)
		}
	}
	if len(s.servers) == 0 {
		return errValue("a list of host:port", v)
	}
	return nil
}
