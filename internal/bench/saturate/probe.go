package saturate

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"padstone/fnapi"
	"padstone/harness"
	"padstone/harness/docker"
	"padstone/internal/bench"
	"padstone/internal/bench/proc"
	"padstone/internal/buffers"
	"padstone/internal/fault"
)

// Config says how to keep a harness busy.
type Config struct {
	Logger   *zap.Logger   // nil: no logs
	InFlight int           // bundles at a time; 1 at least
	For      time.Duration // how long one size is measured, at least
	// Docker runs the harness of a stage whose environment is an image; nil: there is none.
	Docker *docker.Engine
}

const (
	// bundleMax is how long one bundle may take.
	bundleMax = 5 * time.Minute
	// warmFor is how long a size runs before it is measured.
	warmFor = 150 * time.Millisecond
	// bundlesMin is how many bundles of a size are measured, at least.
	bundlesMin = 4
)

// Probe is one harness with a stage.
type Probe struct {
	cfg        Config
	stage      *Stage
	server     *fnapi.Server
	pool       *harness.Pool
	worker     *fnapi.Worker
	descriptor fnapi.DescriptorID
	serving    sync.WaitGroup
	bundles    atomic.Int64
	harness    []int // the processes of ours that were started with it; none of a container
	peak       int64 // bytes that a container was seen to have
}

// Open starts a harness for the stage.
func Open(ctx context.Context, cfg Config, stage *Stage) (_ *Probe, err error) {
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	p := &Probe{cfg: cfg, stage: stage}
	if p.server, err = fnapi.New(fnapi.Config{Logger: cfg.Logger}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	p.serving.Go(func() {
		if err := p.server.Run(context.Background()); err != nil {
			cfg.Logger.Error("the Fn API server stopped", zap.Error(err))
		}
	})
	manager, err := harness.New(harness.Config{Logger: cfg.Logger, Server: p.server, Docker: cfg.Docker})
	if err != nil {
		return nil, err
	}
	before, _ := proc.Children(os.Getpid()) // where they are not known, nothing is
	p.pool, err = manager.Start(ctx, harness.Spec{
		JobID: stage.JobID, JobName: "bench", EnvID: string(stage.Plan.Env), Environment: stage.Environment, Options: stage.Options,
		ArtifactEndpoint: stage.ArtifactEndpoint, RetrievalToken: stage.RetrievalToken, Processes: 1,
	})
	if err != nil {
		return nil, err
	}
	after, _ := proc.Children(os.Getpid())
	p.harness = slices.DeleteFunc(after, func(pid int) bool { return slices.Contains(before, pid) })
	workers := p.pool.Workers()
	if len(workers) == 0 {
		return nil, fault.New(fault.Environment, codeStage, "the harness was lost as soon as it had started")
	}
	p.worker = workers[0]
	d, err := describe(stage.Plan.Descriptor, p.server)
	if err != nil {
		return nil, err
	}
	p.descriptor = fnapi.DescriptorID(d.GetId())
	return p, p.server.AddDescriptor(d)
}

// Close ends the harness.
func (p *Probe) Close() {
	if p.pool != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		p.pool.Close(ctx)
	}
	p.server.Close()
	p.serving.Wait()
}

// describe fills in what only the server knows.
func describe(raw []byte, server *fnapi.Server) (*fnpb.ProcessBundleDescriptor, error) {
	d := &fnpb.ProcessBundleDescriptor{}
	if err := proto.Unmarshal(raw, d); err != nil {
		return nil, fmt.Errorf("descriptor: %w", err)
	}
	d.Id = string(fnapi.NewWorkerID("bench")) // as unguessable as that of a worker
	d.StateApiServiceDescriptor, d.TimerApiServiceDescriptor = server.StateEndpoint(), server.DataEndpoint()
	for _, t := range d.GetTransforms() {
		const source, sink = "beam:runner:source:v1", "beam:runner:sink:v1"
		if urn := t.GetSpec().GetUrn(); urn != source && urn != sink {
			continue
		}
		port := &fnpb.RemoteGrpcPort{}
		if err := proto.Unmarshal(t.GetSpec().GetPayload(), port); err != nil {
			return nil, fmt.Errorf("port %q: %w", t.GetUniqueName(), err)
		}
		port.ApiServiceDescriptor = server.DataEndpoint()
		payload, err := proto.Marshal(port)
		if err != nil {
			return nil, err
		}
		t.Spec = &pipepb.FunctionSpec{Urn: t.GetSpec().GetUrn(), Payload: payload}
	}
	return d, nil
}

// Memory is the most memory that the harness has had, if that is known; a container's is seen after each size.
func (p *Probe) Memory() *int64 {
	if p.contained() {
		p.cpu()
		if p.peak == 0 {
			return nil
		}
		return &p.peak
	}
	u, err := proc.Tree(p.harness...)
	if err != nil || u.PeakBytes == 0 {
		return nil
	}
	return &u.PeakBytes
}

// contained says whether the harness is a container, of which only its Engine knows what it uses.
func (p *Probe) contained() bool { return p.cfg.Docker != nil }

// cpu is the processor time that the harness has taken, if that is known.
func (p *Probe) cpu() (time.Duration, bool) {
	if p.contained() {
		usage := p.pool.Usage()
		if len(usage) == 0 {
			return 0, false
		}
		p.peak = max(p.peak, usage[0].Memory)
		return usage[0].CPU, true
	}
	u, err := proc.Tree(p.harness...)
	return u.CPU, err == nil && u.Processes > 0
}

// Measure keeps the harness busy with bundles of n elements for a while.
func (p *Probe) Measure(ctx context.Context, n int) (bench.Point, error) {
	if _, err := p.keepBusy(ctx, n, warmFor, 1); err != nil {
		return bench.Point{}, err
	}
	harnessBefore, before := p.cpu()
	ownBefore := proc.Own()
	start := time.Now()
	taken, err := p.keepBusy(ctx, n, p.cfg.For, bundlesMin)
	if err != nil {
		return bench.Point{}, err
	}
	elapsed := time.Since(start)
	own := proc.Own() - ownBefore
	bundles := float64(len(taken))
	elements := bundles * float64(n)
	point := bench.Point{
		Elements: n, Bundles: len(taken), Seconds: elapsed.Seconds(), ElementsPerSecond: elements / elapsed.Seconds(),
		RunnerMicros: ptr(own.Seconds() * 1e6 / elements),
		WallMillis:   elapsed.Seconds() * 1000 / bundles,
		P50Millis:    quantile(taken, 0.50), P99Millis: quantile(taken, 0.99),
	}
	if harnessAfter, after := p.cpu(); before && after {
		cpu := harnessAfter - harnessBefore
		point.HarnessMillis, point.HarnessMicros = ptr(cpu.Seconds()*1e3/bundles), ptr(cpu.Seconds()*1e6/elements)
	}
	return point, nil
}

func ptr(v float64) *float64 { return &v }

// quantile returns a quantile of durations in milliseconds.
func quantile(all []time.Duration, q float64) float64 {
	slices.Sort(all)
	i := min(int(q*float64(len(all))), len(all)-1)
	return all[i].Seconds() * 1000
}

// keepBusy runs bundles of n elements, several at a time, for a while, and returns how long each took.
func (p *Probe) keepBusy(ctx context.Context, n int, atLeast time.Duration, bundles int64) ([]time.Duration, error) {
	end := time.Now().Add(atLeast)
	var begun atomic.Int64
	taken := make([][]time.Duration, p.cfg.InFlight)
	g, ctx := errgroup.WithContext(ctx)
	for i := range p.cfg.InFlight {
		g.Go(func() error {
			for time.Now().Before(end) || begun.Load() < bundles {
				begun.Add(1)
				start := time.Now()
				if err := p.bundle(ctx, i, n); err != nil {
					return err
				}
				taken[i] = append(taken[i], time.Since(start))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return slices.Concat(taken...), nil
}

// bundle runs one bundle of n elements on one of the data streams.
func (p *Probe) bundle(ctx context.Context, stream, n int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bundleMax,
		fault.New(fault.Pipeline, codeStall, "a bundle of %d elements of stage %q is not done after %s", n, p.stage.Name, bundleMax).
			WithHint("measure smaller bundles with --sizes"))
	defer cancel()
	number := p.bundles.Add(1)
	var in int
	var out atomic.Int64
	sb := fnapi.StartBundle{
		InstructionID: fnapi.InstructionID(fmt.Sprintf("%s/%d", p.descriptor, number)), DescriptorID: p.descriptor,
		Inputs: []string{p.stage.Plan.InputRead},
		OnData: func(_ string, data []byte, lent *buffers.Buffer) {
			out.Add(int64(len(data)))
			lent.Release()
		},
	}
	if p.worker.Supports(fnapi.CapabilityNamedDataStreams) {
		sb.DataStreamID = fmt.Sprintf("stream-%d", stream)
	}
	for _, o := range p.stage.Plan.Outputs {
		sb.Outputs = append(sb.Outputs, o.Write)
	}
	b, err := p.worker.StartBundle(ctx, sb)
	if err != nil {
		return err
	}
	err = func() error {
		for data := range p.stage.Sample.Cut(int(number)*n, n) {
			in += len(data)
			if err := b.SendData(ctx, p.stage.Plan.InputRead, data); err != nil {
				return err
			}
		}
		if err := b.Finish(ctx); err != nil {
			return err
		}
		_, err := b.Wait(ctx)
		return err
	}()
	if err != nil {
		b.Abandon(err)
		return err
	}
	if p.stage.Identity && out.Load() != int64(in) {
		return fault.New(fault.Internal, codeResult, "%d bytes came out of a bundle of %d elements with %d bytes", out.Load(), n, in)
	}
	return nil
}

// MeasureTime measures bundles that take about that long: how many elements those are it finds out by a few bundles of other sizes.
func (p *Probe) MeasureTime(ctx context.Context, want time.Duration) (bench.Point, error) {
	const tries, few = 4, 1000
	var costs []bench.Cost
	n, wanted := 1, want.Seconds()*1000
	for range tries {
		taken, err := p.keepBusy(ctx, n, warmFor, 2)
		if err != nil {
			return bench.Point{}, err
		}
		typical := quantile(taken, 0.5)
		costs = append(costs, bench.Cost{Elements: float64(n), Millis: typical})
		if typical > 0.8*wanted && typical < 1.25*wanted || typical > wanted && n == 1 {
			break
		}
		fit, ok := bench.FitCosts(costs)
		switch {
		case !ok || fit.ElementMicros == 0:
			n = max(few, 10*n)
		default:
			n = max(1, min(int((wanted-fit.FixedMillis)*1000/fit.ElementMicros), 100*n))
		}
	}
	point, err := p.Measure(ctx, n)
	point.WantedMillis = wanted
	return point, err
}
