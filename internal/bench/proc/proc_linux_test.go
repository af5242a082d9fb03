package proc

import (
	"net"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// TestTree reads what a child has used, which it has used up for certain.
func TestTree(t *testing.T) {
	child := exec.Command("sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; sh -c 'echo done; read line'; true")
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
	pid := child.Process.Pid
	if _, err := out.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	u, err := Tree(pid)
	if err != nil || u.CPU < tick || u.CPU > time.Minute || u.Processes != 2 || u.PeakBytes <= 0 {
		t.Errorf("the child and its child have used %+v, %v", u, err)
	}
	if both, err := Tree(pid, os.Getpid()); err != nil || both.Processes < 5 || both.CPU < 2*u.CPU {
		t.Errorf("the child, this process and the child again have used %+v, %v", both, err)
	}
	if children, err := Children(os.Getpid()); err != nil || !slices.Contains(children, pid) {
		t.Errorf("children %v, %v, without %d", children, err, pid)
	}
	if err := ForgetPeak(pid); err != nil {
		t.Error(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := Tree(pid); err == nil {
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
