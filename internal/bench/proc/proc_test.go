package proc

import (
	"slices"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const text = "4711 (py (thon) 3) S 17 4711 4711 0 -1 4194304 100 200 0 0 250 50 7 3 20 0 5 0 12345 1000 200 18446744073709551615"
	s, err := parseStat(text)
	if err != nil {
		t.Fatal(err)
	}
	if want := (stat{parent: 17, cpu: 3100 * time.Millisecond}); s != want {
		t.Errorf("%+v, not %+v", s, want)
	}
	for _, bad := range []string{"", "4711 python S 17", "4711 (python) S 17 4711", "1 (a) S x 1 1 0 -1 0 0 0 0 0 1 2 3 4"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("%q is taken for a stat", bad)
		}
	}
}

func TestParsePeak(t *testing.T) {
	if got := parsePeak("Name:\tpython\nVmPeak:\t  999 kB\nVmHWM:\t    1234 kB\nVmRSS:\t 1 kB\n"); got != 1234<<10 {
		t.Errorf("peak %d", got)
	}
	if got := parsePeak("Name:\tkthreadd\n"); got != 0 {
		t.Errorf("peak %d of a process without memory", got)
	}
}

func TestParseListener(t *testing.T) {
	const table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 0100007F:1FA3 0200007F:C000 01 00000000:00000000 00:00000000 00000000     0        0 111 1 0 20 4 30 10 -1\n" +
		"   1: 0100007F:1FA3 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0 0 10 0\n" +
		"   2: 00000000000000000000000001000000:1FA4 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 333 1 0 100 0 0 10 0\n"
	for port, want := range map[int]string{8099: "222", 8100: "333", 49152: "", 80: ""} {
		inode, ok := parseListener(table, port)
		if inode != want || ok != (want != "") {
			t.Errorf("port %d: inode %q, %v; want %q", port, inode, ok, want)
		}
	}
}

func TestBelow(t *testing.T) {
	all := map[int]stat{1: {}, 2: {parent: 1}, 3: {parent: 2}, 4: {parent: 3}, 5: {parent: 1}, 6: {parent: 6}}
	got := below(all, 2)
	slices.Sort(got)
	if !slices.Equal(got, []int{3, 4}) {
		t.Errorf("below 2: %v", got)
	}
}
