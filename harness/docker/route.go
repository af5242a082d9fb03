package docker

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"

	"padstone/internal/fault"
)

// Server is what containers are to reach.
type Server interface {
	// Endpoint is where programs of this machine reach it, AdvertisedEndpoint where those elsewhere do.
	Endpoint() string
	AdvertisedEndpoint() string
	// Advertises says whether somebody has chosen what AdvertisedEndpoint says.
	Advertises() bool
	// ListenOn has it listen on another address of this machine, too; early: on one that may come later.
	ListenOn(host string, early bool) (string, error)
}

// Names by which containers know the Engine's machine. Docker Desktop and Podman resolve theirs by themselves; a Docker Engine on Linux
// does when it is told.
const hostInternal = "host.docker.internal"

// Route returns the endpoint that containers of the network reach the server by. On the host's network that is the loopback interface. From
// a network of its own a container reaches this machine by the network's gateway, on which the server then listens, or by the name that
// the server advertises. Errors: docker-no-engine, docker-no-network, docker-no-route.
func (e *Engine) Route(ctx context.Context, network string, server Server) (string, error) {
	if network == NetworkHost {
		if e.local() {
			return server.Endpoint(), nil
		}
		return server.AdvertisedEndpoint(), nil
	}
	gateways, err := e.gateways(ctx, network)
	if err != nil {
		return "", err
	}
	if server.Advertises() || !e.local() {
		return server.AdvertisedEndpoint(), nil
	}
	early := e.isPodman(ctx) // it makes a network's interface with the first container
	var faults []string
	for _, gateway := range gateways {
		endpoint, err := server.ListenOn(gateway, early)
		if err == nil {
			return endpoint, nil
		}
		faults = append(faults, err.Error())
	}
	if len(faults) == 0 {
		faults = append(faults, "the network has no gateway")
	}
	return "", fault.New(fault.Environment, codeNoRoute, "no route from containers of the network %q to this server: %s",
		network, strings.Join(faults, "; ")).WithHint(adviseHost)
}

// adviseHost is for servers that are not on the machine whose containers they start, and for firewalls.
const adviseHost = "with Docker Desktop, or if the server is in a container itself, give --advertised-worker-host " +
	"(" + hostInternal + ", or the server's name in that network) and a --worker-endpoint that is reached there; " +
	"otherwise look whether a firewall keeps containers from this machine"

// NoRoute is the fault of a container that cannot reach the server.
func (e *Engine) NoRoute(network, endpoint, why string) error {
	f := fault.New(fault.Environment, codeNoRoute, "no route from the container to %s (network %q): %s", endpoint, network, why)
	if network == NetworkHost {
		return f.WithHint("the Docker Engine's host network is not this machine's, as with Docker Desktop or an Engine elsewhere: " +
			"start the server with --docker-network=bridge --advertised-worker-host=" + hostInternal)
	}
	return f.WithHint(adviseHost)
}

// isPodman says whether the Engine is Podman.
func (e *Engine) isPodman(ctx context.Context) bool {
	asked, cancel := e.answer(ctx)
	defer cancel()
	version, err := e.client.ServerVersion(asked, client.ServerVersionOptions{})
	return err == nil && slices.ContainsFunc(version.Components, func(c system.ComponentVersion) bool {
		return strings.HasPrefix(c.Name, "Podman")
	})
}

// gateways returns the addresses of this machine in the network, IPv4 first.
func (e *Engine) gateways(ctx context.Context, network string) ([]string, error) {
	asked, cancel := e.answer(ctx)
	defer cancel()
	resp, err := e.client.NetworkInspect(asked, network, client.NetworkInspectOptions{})
	if cerrdefs.IsNotFound(err) {
		return nil, fault.New(fault.Environment, codeNoNetwork, "the Docker Engine has no network %q", network).
			WithHint("`docker network ls` lists what is there; `docker network create NAME` makes one")
	}
	if err != nil {
		return nil, e.failed(ctx, fmt.Sprintf("look at the network %q", network), slow(asked, err))
	}
	var found []string
	for _, config := range resp.Network.IPAM.Config {
		switch {
		case config.Gateway.IsValid():
			found = append(found, config.Gateway.String())
		case config.Subnet.IsValid(): // older Engines do not name a gateway that they have chosen: it is the first address
			found = append(found, config.Subnet.Masked().Addr().Next().String())
		}
	}
	slices.SortStableFunc(found, func(a, b string) int { return strings.Count(a, ":") - strings.Count(b, ":") })
	return found, nil
}

// extraHosts are the entries of /etc/hosts that a container needs to know the endpoint's name.
func extraHosts(o Options, endpoint string) []string {
	if o.Network == NetworkHost {
		return o.Hosts
	}
	host, _, err := net.SplitHostPort(endpoint)
	if err != nil || host != hostInternal || slices.ContainsFunc(o.Hosts, func(h string) bool { return strings.HasPrefix(h, host+":") }) {
		return o.Hosts
	}
	return append(slices.Clone(o.Hosts), host+":host-gateway")
}
