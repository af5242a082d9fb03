package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"

	"padstone/internal/fault"
)

// configFileMax bounds what is read of a configuration file.
const configFileMax = 1 << 20

// loadConfig lays the file under the flags that were given: defaults, then the file, then flags. path may be "".
func loadConfig(defaults Config, path string, given *pflag.FlagSet) (Config, error) {
	cfg := defaults
	if path != "" {
		if err := readConfigFile(path, &cfg); err != nil {
			return Config{}, err
		}
	}
	over := pflag.NewFlagSet("config", pflag.ContinueOnError)
	cfg.bind(over)
	var faults []error
	given.Visit(func(f *pflag.Flag) {
		if over.Lookup(f.Name) == nil {
			return
		}
		if err := over.Set(f.Name, f.Value.String()); err != nil {
			faults = append(faults, configFault("--%s: %w", f.Name, err))
		}
	})
	return cfg, errors.Join(faults...)
}

// readConfigFile decodes the YAML file at path over cfg. An unknown key is an error: a misspelt permission must not be silent.
func readConfigFile(path string, cfg *Config) error {
	f, err := os.Open(path)
	if err != nil {
		return configFault("--config: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, configFileMax+1))
	if err != nil {
		return configFault("--config %s: %w", path, err)
	}
	if len(text) > configFileMax {
		return configFault("--config %s: more than %d bytes", path, configFileMax)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(cfg); err != nil && !errors.Is(err, io.EOF) {
		return configFault("--config %s: %w", path, err).WithHint("the keys are the flags of `padstone serve` without dashes in front")
	}
	return nil
}

// configFault is one fault of the configuration.
func configFault(format string, args ...any) *fault.Error {
	return fault.New(fault.Environment, codeConfig, "%w", fmt.Errorf(format, args...))
}
