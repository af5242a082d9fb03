package proc

import (
	"net"
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestDescendants reads what a child has used, which it has used up for certain.
func TestDescendants(t *testing.T) {
	before, err := Descendants(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command("sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done; read line")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	after, err := Descendants(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if used := after.CPU - before.CPU; used < tick || used > time.Minute {
		t.Errorf("the child has used %v", used)
	}
	if after.Processes != before.Processes+1 || after.PeakBytes <= before.PeakBytes {
		t.Errorf("before %+v, after %+v", before, after)
	}
	tree, err := Tree(os.Getpid())
	if err != nil || tree.CPU < after.CPU-before.CPU || tree.Processes <= after.Processes {
		t.Errorf("tree %+v, %v", tree, err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err == nil {
		t.Error("read of a closed input succeeded") // sh's read fails at the end of its input
	}
	if _, err := Tree(child.Process.Pid); err == nil {
		t.Error("a process that has ended has a tree")
	}
}

func TestListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if pid, err := Listener(port); err != nil || pid != os.Getpid() {
		t.Errorf("port %d is listened on by %d, %v", port, pid, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if pid, err := Listener(port); err == nil {
		t.Errorf("closed port %d is listened on by %d", port, pid)
	}
}
