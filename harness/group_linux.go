package harness

import (
	"os"
	"os/exec"
	"syscall"
)

// setProcessGroup gives the program a process group of its own, so that what it starts can be signalled with it, and has the kernel
// kill it when the server dies. What the kernel counts is the death of the thread that started it; Go ends a thread only when a
// goroutine that is locked to it ends, and this package never has one.
func setProcessGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// terminateGroup and killGroup signal the process group that pid leads. That it is gone already is no error.
func terminateGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGTERM) }

func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }

// killed says whether a process was killed by a signal that it cannot catch.
func killed(state *os.ProcessState) bool {
	status, ok := state.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}
