package docker_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/jsonstream"

	"padstone/harness/docker"
	"padstone/harness/docker/dockertest"
	"padstone/internal/fault"
)

// TestProvide: when an image is pulled, and what is said when it cannot be.
func TestProvide(t *testing.T) {
	pulled := func(_ string, progress func(jsonstream.Message), _ <-chan struct{}) string {
		progress(jsonstream.Message{Status: "Pulling from beam"})
		return ""
	}
	fails := func(text string) dockertest.PullProgram {
		return func(string, func(jsonstream.Message), <-chan struct{}) string { return text }
	}
	for _, c := range []struct {
		name   string
		image  string
		policy docker.Pull
		pull   dockertest.PullProgram
		pulls  bool
		code   fault.Code
		parts  []string
	}{
		{"there", "beam", docker.PullMissing, nil, false, "", nil},
		{"there and never pulled", "beam", docker.PullNever, nil, false, "", nil},
		{"there and always pulled", "beam", docker.PullAlways, pulled, true, "", nil},
		{"there and pulled in vain", "beam", docker.PullAlways, fails("manifest unknown"), true, "docker-no-image", []string{"no such image or tag"}},
		{"missing", "new:1", docker.PullMissing, pulled, true, "", nil},
		{"missing and never pulled", "new:1", docker.PullNever, pulled, false, "docker-no-image", []string{"new:1", "never pulled"}},
		{"without a network", "new:1", docker.PullMissing, fails("dial tcp: lookup registry-1.docker.io: no such host"), true,
			"docker-no-image", []string{"no such host", "docker load"}},
		{"with a password", "new:1", docker.PullMissing, nil, true, "docker-no-image", []string{"pull access denied"}},
		{"with a password of a registry's own", "new:1", docker.PullMissing,
			fails("Head \"http://registry:5000/v2/new/manifests/1\": no basic auth credentials"), true, "docker-no-image", []string{"docker login"}},
		{"stalled", "new:1", docker.PullMissing, func(_ string, progress func(jsonstream.Message), done <-chan struct{}) string {
			progress(jsonstream.Message{})
			<-done
			return "gone"
		}, true, "docker-no-image", []string{"no progress for 2s"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake := dockertest.Start(t, sleeper)
			fake.Pull = c.pull
			e := open(t, fake, func(cfg *docker.Config) {
				if c.name == "stalled" {
					cfg.PullStall = 2 * time.Second // it must have been asked by then
				}
			})
			var told []string
			err := e.Provide(testContext(t), c.image, c.policy, func(text string) { told = append(told, text) })
			if c.code == "" && err != nil {
				t.Fatal(err)
			}
			if c.code != "" {
				wantCode(t, err, fault.Environment, c.code, c.parts...)
			}
			if c.pulls != slices.Contains(fake.Requests(), "POST /images/create") || c.pulls != (len(told) > 0) {
				t.Errorf("told %q, asked %q", told, fake.Requests())
			}
			if c.pulls && !strings.Contains(told[0], c.image) {
				t.Errorf("told %q", told)
			}
		})
	}
}

// TestPullThatGoesOn may take as long as it likes, and ends with whoever wants it.
func TestPullThatGoesOn(t *testing.T) {
	fake := dockertest.Start(t, sleeper)
	steps := 0
	fake.Pull = func(_ string, progress func(jsonstream.Message), done <-chan struct{}) string {
		for ; steps < 20; steps++ {
			progress(jsonstream.Message{})
			time.Sleep(10 * time.Millisecond)
		}
		return ""
	}
	e := open(t, fake, func(c *docker.Config) { c.AnswerTimeout, c.PullStall = 50*time.Millisecond, time.Minute })
	if err := e.Provide(testContext(t), "slow:1", docker.PullAlways, func(string) {}); err != nil || steps != 20 {
		t.Errorf("%d steps, %v", steps, err)
	}
	ctx, cancel := context.WithCancelCause(testContext(t))
	fake.Pull = func(_ string, progress func(jsonstream.Message), done <-chan struct{}) string {
		progress(jsonstream.Message{})
		cancel(errors.New("the job was cancelled"))
		<-done
		return ""
	}
	err := e.Provide(ctx, "slow:2", docker.PullAlways, func(string) {})
	if err == nil || !strings.Contains(err.Error(), "the job was cancelled") {
		t.Errorf("got %v", err)
	}
}

// TestPullTold: whoever waits for a pull hears how far it is.
func TestPullTold(t *testing.T) {
	fake := dockertest.Start(t, sleeper)
	of := func(id, status string, now, all int64) jsonstream.Message {
		return jsonstream.Message{ID: id, Status: status, Progress: &jsonstream.Progress{Current: now, Total: all}}
	}
	fake.Pull = func(_ string, progress func(jsonstream.Message), _ <-chan struct{}) string {
		for _, m := range []jsonstream.Message{
			of("1", "Pulling from beam", 0, 0), of("a", "Already exists", 0, 0), of("b", "Pulling fs layer", 0, 0), of("c", "Pulling fs layer", 0, 0),
			of("b", "Downloading", 2e6, 12e6), of("b", "Retrying in 5 seconds", 0, 0), of("b", "Downloading", 1e6, 10e6), // of what was left
			of("c", "Downloading", 1e6, 5e6), of("c", "Download complete", 0, 0), of("c", "Extracting", 7, 9),
		} {
			progress(m)
		}
		return ""
	}
	var told []string
	e := open(t, fake, func(c *docker.Config) { c.PullTell = time.Nanosecond })
	if err := e.Provide(testContext(t), "slow:1", docker.PullMissing, func(text string) { told = append(told, text) }); err != nil {
		t.Fatal(err)
	}
	const want = "8MB of 17MB that are known of so far, 2 of 3 layers downloaded, 1 unpacked"
	if last := told[len(told)-2]; !strings.HasPrefix(last, "still pulling the image slow:1 after ") || !strings.HasSuffix(last, want) {
		t.Errorf("got %q, want %q", told, want)
	}
}

func TestImageThatIsNoName(t *testing.T) {
	fake := dockertest.Start(t, sleeper)
	e := open(t, fake, nil)
	for _, image := range []string{"a b", "UPPER:x"} {
		err := e.Provide(testContext(t), image, docker.PullMissing, func(string) {})
		wantCode(t, err, fault.Pipeline, "docker-no-image", image)
	}
}

// endpoints is a server's.
type endpoints struct {
	advertised string
	fails      bool
	asked      []string
	early      bool
}

func (s *endpoints) Endpoint() string { return "localhost:7" }
func (s *endpoints) AdvertisedEndpoint() string {
	if s.advertised != "" {
		return s.advertised
	}
	return s.Endpoint()
}
func (s *endpoints) Advertises() bool { return s.advertised != "" }
func (s *endpoints) ListenOn(host string, early bool) (string, error) {
	s.asked, s.early = append(s.asked, host), early
	if s.fails {
		return "", errors.New("cannot assign requested address")
	}
	return host + ":9", nil
}

// TestRoute: where containers of a network reach the server.
func TestRoute(t *testing.T) {
	fake := dockertest.Start(t, sleeper)
	fake.AddNetwork("named", "172.30.0.0/16", "172.30.0.9")
	fake.AddNetwork("old", "172.31.0.0/16", "")
	local := open(t, fake, nil)
	for _, c := range []struct {
		network, advertised string
		fails               bool
		want                string
		code                fault.Code
	}{
		{"host", "", false, "localhost:7", ""},
		{"host", "runner.example:7", false, "localhost:7", ""},
		{"bridge", "", false, "127.0.0.1:9", ""},
		{"named", "", false, "172.30.0.9:9", ""},
		{"old", "", false, "172.31.0.1:9", ""},
		{"named", "host.docker.internal:7", true, "host.docker.internal:7", ""},
		{"named", "", true, "", "docker-no-route"},
		{"missing", "", false, "", "docker-no-network"},
		{"missing", "runner.example:7", false, "", "docker-no-network"},
	} {
		server := &endpoints{advertised: c.advertised, fails: c.fails}
		got, err := local.Route(testContext(t), c.network, server)
		if got != c.want || (c.code == "") != (err == nil) {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
		if c.code != "" {
			wantCode(t, err, fault.Environment, c.code, c.network)
		}
	}
	// Podman makes a network's interface late.
	for _, podman := range []bool{false, true} {
		if podman {
			fake.SetComponents("Podman Engine", "Conmon")
		}
		server := &endpoints{}
		if _, err := local.Route(testContext(t), "named", server); err != nil || server.early != podman {
			t.Errorf("Podman %t: early %t, %v", podman, server.early, err)
		}
	}
	// An Engine elsewhere: the loopback interface of its machine is not this one's.
	far, err := docker.New(docker.Config{Host: "tcp://192.0.2.1:2375", Owner: "x"})
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	if got, err := far.Route(testContext(t), "host", &endpoints{advertised: "runner.example:7"}); got != "runner.example:7" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestProbe: what an attempt from inside a container shows.
func TestProbe(t *testing.T) {
	fake := dockertest.Start(t, sleeper)
	e := open(t, fake, nil)
	s, _ := spec()
	c := start(t, e, s)
	var args []string
	for _, tt := range []struct {
		output string
		status int
		want   docker.Probe
		why    string
	}{
		{"", 0, docker.Reached, ""},
		{"", 99, docker.Unknown, ""},
		{"sh: not found", 127, docker.Unknown, ""},
		{"exec failed", 126, docker.Unknown, ""},
		{"trying\n[Errno 111] Connection refused\n", 1, docker.Unreachable, "[Errno 111] Connection refused"},
		{"trying\nbash: line 1: x: Name or service not known\nbash: line 1: /dev/tcp/x/1: Invalid argument", 1, docker.Unreachable,
			"x: Name or service not known"},
		{"trying\n", 1, docker.Unreachable, "it cannot connect"},
	} {
		fake.OnExec(func(_ context.Context, a []string) (string, int) { args = a; return tt.output, tt.status })
		if got, why := c.Probe(testContext(t)); got != tt.want || why != tt.why {
			t.Errorf("%+v: %v, %q", tt, got, why)
		}
	}
	if n := len(args); n < 2 || args[n-2] != "localhost" || args[n-1] != "1" {
		t.Errorf("arguments %q", args)
	}
	// What drops packets answers nothing.
	hasty := open(t, fake, func(c *docker.Config) { c.ProbeTimeout = 100 * time.Millisecond })
	s.Number = 2
	c = start(t, hasty, s)
	fake.OnExec(func(ctx context.Context, _ []string) (string, int) { <-ctx.Done(); return "", 1 })
	fake.SayFirst("trying\n")
	if got, why := c.Probe(testContext(t)); got != docker.Unreachable || !strings.Contains(why, "not answered") {
		t.Errorf("%v, %q", got, why)
	}
	if got, _ := c.Probe(cancelled()); got != docker.Unknown {
		t.Errorf("a probe that was given up: %v", got)
	}
}

// TestEntry: what an image runs, and that one without an entry point is no harness.
func TestEntry(t *testing.T) {
	fake := dockertest.Start(t, sleeper)
	e := open(t, fake, nil)
	fake.AddImage("custom", "/entry.sh", "-x")
	fake.AddImage("none")
	for image, want := range map[string]string{"beam": "/opt/apache/beam/boot", "custom": "/entry.sh -x", "missing": ""} {
		got, err := e.Entry(testContext(t), image)
		if err != nil || got.String() != want || got.Boots() != (image == "beam") {
			t.Errorf("%s: %q, %v", image, got, err)
		}
	}
	_, err := e.Entry(testContext(t), "none")
	wantCode(t, err, fault.Environment, "docker-no-entry-point", "none", "FROM")
	wantCode(t, e.Check(testContext(t), "none", docker.Options{Network: "host"}, &endpoints{}), fault.Environment, "docker-no-entry-point")
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// TestCheck: what is known before a job is accepted.
func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name     string
		image    string
		options  docker.Options
		registry func(string) (string, int)
		code     fault.Code
	}{
		{"there", "beam", docker.Options{Network: "host"}, nil, ""},
		{"route", "beam", docker.Options{Network: "bridge"}, nil, ""},
		{"no network", "beam", docker.Options{Network: "missing"}, nil, "docker-no-network"},
		{"never pulled", "new", docker.Options{Network: "host", Pull: docker.PullNever}, nil, "docker-no-image"},
		{"a registry that has it", "new", docker.Options{Network: "host"}, func(string) (string, int) { return "sha256:1", 200 }, ""},
		{"a registry that has not", "new", docker.Options{Network: "host"},
			func(image string) (string, int) { return "manifest unknown: " + image, http.StatusNotFound }, "docker-no-image"},
		{"no registry", "new", docker.Options{Network: "host"},
			func(string) (string, int) { return "dial tcp: no such host", http.StatusInternalServerError }, "docker-no-image"},
		{"a registry that wants a password", "new", docker.Options{Network: "host"},
			func(string) (string, int) { return "no basic auth credentials", http.StatusInternalServerError }, "docker-no-image"},
		{"always pulled, no registry", "beam", docker.Options{Network: "host", Pull: docker.PullAlways},
			func(string) (string, int) { return "dial tcp: no such host", http.StatusInternalServerError }, "docker-no-image"},
		{"an Engine that cannot ask", "new", docker.Options{Network: "host"}, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake := dockertest.Start(t, sleeper)
			fake.Registry = c.registry
			err := open(t, fake, nil).Check(testContext(t), c.image, c.options, &endpoints{})
			if c.code == "" && err != nil {
				t.Fatal(err)
			}
			if c.code != "" {
				wantCode(t, err, fault.Environment, c.code)
			}
			if slices.Contains(fake.Requests(), "POST /images/create") {
				t.Error("a check has pulled")
			}
		})
	}
	fake := dockertest.Start(t, sleeper)
	e := open(t, fake, nil)
	fake.Leave()
	wantCode(t, e.Check(testContext(t), "beam", docker.Options{Network: "host"}, &endpoints{}), fault.Environment, "docker-no-engine")
}

// TestRegistryThatHangs gets the benefit of the doubt, after a second.
func TestRegistryThatHangs(t *testing.T) {
	fake := dockertest.Start(t, sleeper)
	fake.Before = func(_ http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/distribution/") {
			return false
		}
		<-r.Context().Done()
		return true
	}
	err := open(t, fake, nil).Check(testContext(t), "new", docker.Options{Network: "host"}, &endpoints{})
	if err != nil {
		t.Error(err)
	}
}

// TestOptionsOfAJob: a job gets less of the machine than the server's options say, and more only of what the server allows.
func TestOptionsOfAJob(t *testing.T) {
	fake := dockertest.Start(t, sleeper)
	server := docker.Options{Network: "bridge", Env: []string{"A=1"}, Volumes: []string{"/x:/x"}, Memory: 1 << 30, CPUs: 2}
	for _, c := range []struct {
		name   string
		allow  []string
		pull   docker.Pull
		chosen map[string][]string
		want   string // of what differs
		code   fault.Code
	}{
		{"nothing", nil, "", nil, "bridge missing [A=1] [/x:/x] 1073741824 2", ""},
		{"less", nil, "", map[string][]string{"docker_memory": {"512m"}, "docker_cpus": {"0.5"}, "docker_env": {"B=2", "C=3"}},
			"bridge missing [A=1 B=2 C=3] [/x:/x] 536870912 0.5", ""},
		{"the last one counts", nil, "", map[string][]string{"docker_memory": {"2m", "1GiB"}}, "bridge missing [A=1] [/x:/x] 1073741824 2", ""},
		{"pull", nil, "", map[string][]string{"docker_pull": {"always"}}, "bridge always [A=1] [/x:/x] 1073741824 2", ""},
		{"pull never", nil, docker.PullNever, map[string][]string{"docker_pull": {"always"}}, "", "docker-not-allowed"},
		{"never pull", nil, docker.PullNever, map[string][]string{"docker_pull": {"never"}}, "bridge never [A=1] [/x:/x] 1073741824 2", ""},
		{"memory", nil, "", map[string][]string{"docker_memory": {"2g"}}, "", "docker-not-allowed"},
		{"processors", nil, "", map[string][]string{"docker_cpus": {"3"}}, "", "docker-not-allowed"},
		{"the same network", nil, "", map[string][]string{"docker_network": {"bridge"}}, "bridge missing [A=1] [/x:/x] 1073741824 2", ""},
		{"network", nil, "", map[string][]string{"docker_network": {"host"}}, "", "docker-not-allowed"},
		{"network allowed", []string{"network"}, "", map[string][]string{"docker_network": {"host"}}, "host missing [A=1] [/x:/x] 1073741824 2", ""},
		{"volume", nil, "", map[string][]string{"docker_volume": {"/:/host"}}, "", "docker-not-allowed"},
		{"volume while networks are allowed", []string{"network"}, "", map[string][]string{"docker_volume": {"cache:/v"}}, "", "docker-not-allowed"},
		{"volume allowed", []string{"volume"}, "", map[string][]string{"docker_volume": {"cache:/v"}},
			"bridge missing [A=1] [/x:/x cache:/v] 1073741824 2", ""},
		{"another container's network", []string{"network"}, "", map[string][]string{"docker_network": {"container:x"}}, "", "docker-option"},
		{"no network", []string{"network"}, "", map[string][]string{"docker_network": {"none"}}, "", "docker-option"},
		{"bad memory", nil, "", map[string][]string{"docker_memory": {"much"}}, "", "docker-option"},
		{"little memory", nil, "", map[string][]string{"docker_memory": {"1m"}}, "", "docker-option"},
		{"negative memory", nil, "", map[string][]string{"docker_memory": {"-1"}}, "", "docker-option"},
		{"bad processors", nil, "", map[string][]string{"docker_cpus": {"NaN"}}, "", "docker-option"},
		{"no processors", nil, "", map[string][]string{"docker_cpus": {"0"}}, "", "docker-option"},
		{"bad variable", nil, "", map[string][]string{"docker_env": {"PATH"}}, "", "docker-option"},
		{"bad pull", nil, "", map[string][]string{"docker_pull": {"often"}}, "", "docker-option"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := open(t, fake, func(cfg *docker.Config) {
				cfg.Options, cfg.Allow = server, c.allow
				cfg.Options.Pull = c.pull
			})
			o, err := e.ForJob(c.chosen)
			if c.code != "" {
				wantCode(t, err, fault.Pipeline, c.code)
				return
			}
			if got := fmt.Sprint(o.Network, " ", o.Pull, " ", o.Env, " ", o.Volumes, " ", o.Memory, " ", o.CPUs); err != nil || got != c.want {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
	unbounded := open(t, fake, nil)
	if o, err := unbounded.ForJob(map[string][]string{"docker_memory": {"64g"}, "docker_cpus": {"64"}}); err != nil || o.Memory != 64<<30 {
		t.Errorf("without bounds of the server: %+v, %v", o, err)
	}
}

func TestVolumes(t *testing.T) {
	for text, ok := range map[string]bool{
		"/a:/b": true, "/a:/b:ro": true, "/a:/b:rw": true, "cache:/b": true,
		"/a": false, "/a:b": false, "/a:/": false, "a/b:/c": false, "/a:/b:z": false, ":/b": false, "/a:/b:ro:x": false, "": false, "/a:/x/..": false,
	} {
		if err := (docker.Options{Network: "host", Pull: docker.PullMissing, Volumes: []string{text}}).Validate(); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestPullWithAPassword: what `docker login` has stored goes to the image's own registry, and to no other.
func TestPullWithAPassword(t *testing.T) {
	stored := `{"auths": {"registry.example:5000": {"auth": "` + base64.StdEncoding.EncodeToString([]byte("me:secret")) + `"}}}`
	if err := os.WriteFile(logins, []byte(stored), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(logins) })
	fake := dockertest.Start(t, sleeper)
	fake.Pull = func(string, func(jsonstream.Message), <-chan struct{}) string { return "" }
	var sent string
	fake.Before = func(_ http.ResponseWriter, r *http.Request) bool {
		sent = r.Header.Get("X-Registry-Auth")
		return false
	}
	e := open(t, fake, nil)
	for image, want := range map[string]string{"registry.example:5000/a/b:1": "secret", "other.example/a/b:1": "", "b:1": "", "a b": ""} {
		sent = ""
		_ = e.Provide(testContext(t), image, docker.PullAlways, func(string) {}) // one of them is no name
		text, err := base64.URLEncoding.DecodeString(sent)
		if err != nil || strings.Contains(string(text), "secret") != (want != "") {
			t.Errorf("%s: sent %s, %v", image, text, err)
		}
	}
	if err := os.WriteFile(logins, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := e.Provide(testContext(t), "b:2", docker.PullAlways, func(string) {}); err != nil {
		t.Errorf("a file that does not read: %v", err)
	}
}
