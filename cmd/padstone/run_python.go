package main

import (
	"os/exec"
	"path/filepath"

	"padstone/internal/fault"
)

// findPython chooses the interpreter: the flag, PADSTONE_PYTHON, the active virtual environment, ./.venv, python3 of the PATH. A named
// one that cannot be run is an error, not a reason to take another: the pipeline would meet another set of packages.
func findPython(flag string, getenv func(string) string) (string, error) {
	if flag != "" {
		return lookPython(flag, "--python")
	}
	if chosen := getenv("PADSTONE_PYTHON"); chosen != "" {
		return lookPython(chosen, "PADSTONE_PYTHON")
	}
	if env := getenv("VIRTUAL_ENV"); env != "" {
		return lookPython(filepath.Join(env, "bin", "python"), "VIRTUAL_ENV")
	}
	if path, err := exec.LookPath(filepath.Join(".", ".venv", "bin", "python")); err == nil {
		return filepath.Abs(path)
	}
	return lookPython("python3", "PATH")
}

func lookPython(name, from string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fault.New(fault.Environment, codePython, "no Python from %s: %w", from, err).
			WithHint("activate the virtual environment that has apache-beam, or name its interpreter with --python")
	}
	return path, nil
}
