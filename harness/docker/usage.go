package docker

import (
	"context"
	"encoding/json"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// Usage is what the container uses, with all its processes: processor time since it began, and bytes of memory that it cannot do without.
// It is false when the Engine does not tell.
func (c *Container) Usage(ctx context.Context) (cpu time.Duration, memory int64, known bool) {
	asked, cancel := c.engine.answer(ctx)
	defer cancel()
	resp, err := c.engine.client.ContainerStats(asked, c.id, client.ContainerStatsOptions{})
	if err != nil {
		return 0, 0, false
	}
	defer resp.Body.Close()
	var stats container.StatsResponse
	if err := json.NewDecoder(resp.Body).Decode(&stats); err != nil || stats.MemoryStats.Usage == 0 {
		return 0, 0, false // the latter: it has ended, or the kernel does not count
	}
	return time.Duration(stats.CPUStats.CPUUsage.TotalUsage), resident(stats.MemoryStats), true
}

// resident is a container's memory without the part of the page cache that the kernel gives up first, as `docker stats` shows it. Its name
// is another in each version of the kernel's control groups. Spec: docker cli calculateMemUsageUnixNoCache.
func resident(m container.MemoryStats) int64 {
	for _, name := range []string{"total_inactive_file", "inactive_file"} {
		if cache, ok := m.Stats[name]; ok && cache < m.Usage {
			return int64(m.Usage - cache)
		}
	}
	return int64(m.Usage)
}
