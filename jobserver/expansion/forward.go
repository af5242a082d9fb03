package expansion

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"padstone/internal/fault"
)

const (
	// expandFor bounds one service's answer. A Java service that loads classes or asks a database for a schema takes seconds.
	expandFor = 2 * time.Minute
	// dialFor bounds the connection to a service that does not even refuse it.
	dialFor = 5 * time.Second

	// hopsKey counts how often a request was passed on; two servers that name each other must not send it to and fro.
	hopsKey = "padstone-expansion-hops"
	hopsMax = 4
)

// Forwarder passes requests on to other expansion services. It may be nil: then there is none.
type Forwarder struct {
	routes []Route
	conns  map[string]*grpc.ClientConn
	owners *owners
	log    *zap.Logger
}

// NewForwarder returns a forwarder to routes, in the order in which they are asked. It dials when the first request comes.
func NewForwarder(routes []Route, log *zap.Logger) (*Forwarder, error) {
	f := &Forwarder{routes: routes, conns: map[string]*grpc.ClientConn{}, owners: newOwners(), log: log.Named("expansion")}
	for _, r := range routes {
		if f.conns[r.Address] != nil {
			continue
		}
		conn, err := grpc.NewClient(r.Address,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)),
			// Without a short back-off a service that was started late would be refused for minutes.
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, MaxDelay: time.Second},
				MinConnectTimeout: dialFor,
			}))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("expansion service %s: %w", r.Address, err), f.Close())
		}
		f.conns[r.Address] = conn
	}
	return f, nil
}

// Close gives the connections back; calls in flight fail.
func (f *Forwarder) Close() error {
	if f == nil {
		return nil
	}
	var errs []error
	for _, conn := range f.conns {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}

// takes reports whether a route names exactly this transform: then it is not ours, even if we could run it.
func (f *Forwarder) takes(urn string) bool {
	if f == nil {
		return false
	}
	for _, r := range f.routes {
		if r.Prefix == urn {
			return true
		}
	}
	return false
}

// refusal is what a service gave instead of an expansion.
type refusal struct {
	address string
	text    string // of its answer, or of the transport's error
	silent  bool   // it did not answer
	unknown bool   // it does not know the transform
}

// expand asks the services that may have the transform, one after the other, and returns the first expansion as it came.
func (f *Forwarder) expand(ctx context.Context, req *jobpb.ExpansionRequest) (*jobpb.ExpansionResponse, error) {
	name := nameOf(req)
	ctx, err := nextHop(ctx, name)
	if err != nil {
		return nil, err
	}
	var refusals []refusal
	for _, address := range f.candidates(name) {
		resp, err := f.ask(ctx, address, req)
		switch {
		case ctx.Err() != nil:
			return nil, fault.New(fault.Environment, codeUnreachable, "the client gave up: %w", ctx.Err())
		case err != nil:
			refusals = append(refusals, refusal{address: address, text: status.Convert(err).Message(), silent: true})
		case resp.GetError() != "":
			refusals = append(refusals, refusal{address: address, text: resp.GetError(), unknown: saysUnknown(resp.GetError(), name)})
		default:
			f.owners.learn(address, resp.GetComponents().GetEnvironments())
			f.log.Info("transform expanded by another service", zap.String("transform", req.GetTransform().GetUniqueName()),
				zap.String("name", name), zap.String("address", address))
			return resp, nil
		}
	}
	return nil, refused(name, refusals)
}

func (f *Forwarder) candidates(name string) []string {
	if f == nil {
		return nil
	}
	return candidates(f.routes, name)
}

func (f *Forwarder) ask(ctx context.Context, address string, req *jobpb.ExpansionRequest) (*jobpb.ExpansionResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, expandFor)
	defer cancel()
	return jobpb.NewExpansionServiceClient(f.conns[address]).Expand(ctx, req)
}

// nextHop returns the context of a request that is passed on, or refuses one that has been passed on too often.
func nextHop(ctx context.Context, name string) (context.Context, error) {
	hops := 0
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		for _, v := range md.Get(hopsKey) {
			n, _ := strconv.Atoi(v)
			hops = max(hops, n)
		}
	}
	if hops >= hopsMax {
		return nil, fault.New(fault.Environment, codeFailed, "external transform %q was passed on %d times", name, hops).
			WithHint("two servers name each other with --expansion-service; take it out of one")
	}
	return metadata.AppendToOutgoingContext(ctx, hopsKey, strconv.Itoa(hops+1)), nil
}

// saysUnknown recognises how the SDKs' services say that they do not have a transform. It decides only how an error is worded: after
// any error the next service is asked. Spec: ExpansionService.java expand ("Unknown urn: X"), python ptransform.py from_runner_api
// (KeyError: 'X').
func saysUnknown(text, name string) bool {
	return strings.Contains(text, "Unknown urn: ") || strings.Contains(text, "KeyError: '"+name+"'") ||
		strings.HasPrefix(text, string(codeTransform)+":")
}

// refused makes one error of what all services said: an answer of one that knows the transform first, then silence, then ignorance.
func refused(name string, all []refusal) error {
	if len(all) == 0 {
		return fault.New(fault.Pipeline, codeTransform, "external transform %q is not run by Padstone itself", name).WithHint(
			"start the expansion service that has it, for example Beam's Java one, and name it with `padstone serve --expansion-service " +
				"host:port` or in the transform's expansion_service")
	}
	var failed, silent, ignorant []string
	for _, r := range all {
		switch {
		case r.silent:
			silent = append(silent, r.address+": "+r.text)
		case r.unknown:
			ignorant = append(ignorant, r.address)
		default:
			failed = append(failed, r.address+": "+r.text)
		}
	}
	switch {
	case len(failed) > 0:
		return fault.New(fault.Pipeline, codeFailed, "external transform %q was refused by the expansion service at %s",
			name, strings.Join(failed, "; by the one at "))
	case len(silent) > 0:
		return fault.New(fault.Environment, codeUnreachable, "external transform %q: no answer from the expansion service at %s",
			name, strings.Join(silent, "; from the one at ")).WithHint("start that service, or correct --expansion-service")
	}
	return fault.New(fault.Pipeline, codeTransform, "external transform %q is known neither to Padstone nor to the expansion service at %s",
		name, strings.Join(ignorant, ", ")).WithHint("name the service that has it with --expansion-service")
}

// discover merges what the services offer; of two that offer one name the first counts, as in expand. A service that fails is named in
// the error, beside what the others have. One that is older than the call has nothing to offer.
func (f *Forwarder) discover(ctx context.Context, req *jobpb.DiscoverSchemaTransformRequest) *jobpb.DiscoverSchemaTransformResponse {
	out := &jobpb.DiscoverSchemaTransformResponse{SchemaTransformConfigs: map[string]*jobpb.SchemaTransformConfig{}}
	ctx, err := nextHop(ctx, "discovery")
	if err != nil {
		out.Error = err.Error()
		return out
	}
	var failed []string
	offered := map[string]map[string]*jobpb.SchemaTransformConfig{}
	for _, address := range f.addresses() {
		resp, err := f.askDiscover(ctx, address, req)
		switch {
		case status.Code(err) == codes.Unimplemented:
		case err != nil:
			failed = append(failed, address+": "+status.Convert(err).Message())
		default:
			if resp.GetError() != "" {
				failed = append(failed, address+": "+resp.GetError())
			}
			offered[address] = resp.GetSchemaTransformConfigs()
		}
	}
	names := map[string]bool{}
	for _, configs := range offered {
		for name := range configs {
			names[name] = true
		}
	}
	for name := range names {
		for _, address := range f.candidates(name) {
			if config := offered[address][name]; config != nil {
				out.SchemaTransformConfigs[name] = config
				break
			}
		}
	}
	if len(failed) > 0 {
		out.Error = fault.New(fault.Environment, codeUnreachable, "the expansion service at %s",
			strings.Join(failed, "; the one at ")).WithHint("start that service, or correct --expansion-service").Error()
		f.log.Warn("discovery is not complete", zap.String("error", out.GetError()))
	}
	return out
}

func (f *Forwarder) askDiscover(
	ctx context.Context, address string, req *jobpb.DiscoverSchemaTransformRequest,
) (*jobpb.DiscoverSchemaTransformResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, expandFor)
	defer cancel()
	return jobpb.NewExpansionServiceClient(f.conns[address]).DiscoverSchemaTransform(ctx, req)
}

// addresses lists each service once, in order.
func (f *Forwarder) addresses() []string {
	if f == nil {
		return nil
	}
	var out []string
	seen := map[string]bool{}
	for _, r := range f.routes {
		if !seen[r.Address] {
			seen[r.Address] = true
			out = append(out, r.Address)
		}
	}
	return out
}
