package main

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
)

// expansionTargets are the Gradle targets whose expansion service Padstone answers for. Beam looks targets up by exact name, and
// its own code writes them with and without the leading colon. Spec: apache_beam/utils/subprocess_server.py path_to_beam_jar.
var expansionTargets = [...]string{"sdks:java:io:expansion-service:shadowJar", ":sdks:java:io:expansion-service:shadowJar"}

// overridesVariable holds a JSON object from Gradle target to jar or host:port. Spec: apache_beam/options/pipeline_options.py
// CrossLanguageOptions.
const overridesVariable = "BEAM_SERVICE_OVERRIDES"

// scriptPlan is the command line of a script and what we know of the user's own choices in it.
type scriptPlan struct {
	args []string
	// ownEndpoint is the --job_endpoint that the user chose, "" for ours. Jobs sent there are not seen.
	ownEndpoint string
	// loopback tells that the workers live in the script's process, as we chose; they die with it.
	loopback bool
}

// planArgs adds the options that send a script's jobs to jobEndpoint, except those that the user chose.
func planArgs(user []string, jobEndpoint string) scriptPlan {
	var plan scriptPlan
	var ours []string
	if _, ok := option(user, "runner"); !ok {
		ours = append(ours, "--runner=PortableRunner")
	}
	if v, ok := option(user, "job_endpoint"); ok {
		plan.ownEndpoint = v
	} else {
		ours = append(ours, "--job_endpoint="+jobEndpoint)
	}
	environment, chosen := option(user, "environment_type")
	if !chosen {
		// A configuration without a type is the image of a container: also a choice.
		_, chosen = option(user, "environment_config")
	}
	if !chosen {
		ours = append(ours, "--environment_type=LOOPBACK")
		environment = "LOOPBACK"
	}
	plan.loopback = environment == "LOOPBACK"
	if _, chosen := option(user, "sdk_worker_parallelism"); !chosen {
		ours = append(ours, "--sdk_worker_parallelism=0") // the SDK would send 1
	}

	// After the user's, so that a script which reads sys.argv[1] still finds its own; but options end at a bare "--".
	end := slices.Index(user, "--")
	if end < 0 {
		end = len(user)
	}
	plan.args = slices.Concat(user[:end], ours, user[end:])
	return plan
}

// option finds --name=value or --name value before a bare "--"; the last one counts, as in argparse.
func option(args []string, name string) (value string, ok bool) {
	for i, arg := range args {
		switch {
		case arg == "--":
			return value, ok
		case arg == "--"+name:
			ok = true
			if i+1 < len(args) {
				value = args[i+1]
			}
		case strings.HasPrefix(arg, "--"+name+"="):
			value, ok = strings.TrimPrefix(arg, "--"+name+"="), true
		}
	}
	return value, ok
}

// planEnv returns environ with the expansion service added to BEAM_SERVICE_OVERRIDES; overrides of the user's own stay.
func planEnv(environ []string, expansion string) ([]string, error) {
	const prefix = overridesVariable + "="
	overrides := map[string]string{}
	var env []string
	for _, entry := range environ {
		text, ok := strings.CutPrefix(entry, prefix)
		if !ok {
			env = append(env, entry)
			continue
		}
		if text == "" {
			continue
		}
		if err := json.Unmarshal([]byte(text), &overrides); err != nil {
			return nil, configFault("%s is no JSON object of strings: %w", overridesVariable, err)
		}
	}
	for _, target := range expansionTargets {
		if _, chosen := overrides[target]; !chosen {
			overrides[target] = serviceAddress(expansion)
		}
	}
	text, err := json.Marshal(overrides)
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", overridesVariable, err)
	}
	return append(env, prefix+string(text)), nil
}

// serviceAddress writes an address so that the SDK knows it from the path of a jar: its pattern has no room for IPv6 brackets.
// Spec: apache_beam/utils/subprocess_server.py is_service_endpoint.
func serviceAddress(address string) string {
	if host, port, err := net.SplitHostPort(address); err == nil && net.ParseIP(host).IsLoopback() {
		return "localhost:" + port
	}
	return address
}
