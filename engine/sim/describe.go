package sim

import (
	"fmt"
	"path"
	"strings"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
)

// describe says what a message is. Instructions have a number at their end; what is before it is random.
func (p *pipe) describe(data []byte) string {
	fields := strings.Fields(p.name)
	up := fields[len(fields)-1] == "up"
	switch kind := fields[1]; {
	case strings.HasPrefix(kind, "Control") && up:
		m := &fnpb.InstructionResponse{}
		if decode(data, m) != nil {
			return "?"
		}
		text := fmt.Sprintf("%s %s", path.Base(m.GetInstructionId()), kindOf(m.GetResponse()))
		if m.GetError() != "" {
			text += " failed"
		}
		return text
	case strings.HasPrefix(kind, "Control"):
		m := &fnpb.InstructionRequest{}
		if decode(data, m) != nil {
			return "?"
		}
		return fmt.Sprintf("%s %s", path.Base(m.GetInstructionId()), kindOf(m.GetRequest()))
	case strings.HasPrefix(kind, "Data"):
		m := &fnpb.Elements{}
		if decode(data, m) != nil {
			return "?"
		}
		var parts []string
		for _, d := range m.GetData() {
			parts = append(parts, fmt.Sprintf("%s:%d", path.Base(d.GetInstructionId()), len(d.GetData())))
		}
		for _, d := range m.GetTimers() {
			parts = append(parts, fmt.Sprintf("%s:timers:%d", path.Base(d.GetInstructionId()), len(d.GetTimers())))
		}
		return strings.Join(parts, " ")
	case up:
		m := &fnpb.StateRequest{}
		if decode(data, m) != nil {
			return "?"
		}
		return fmt.Sprintf("%s %s", path.Base(m.GetInstructionId()), kindOf(m.GetRequest()))
	default:
		return fmt.Sprintf("%d bytes", len(data))
	}
}

func kindOf(oneof any) string {
	_, name, _ := strings.Cut(fmt.Sprintf("%T", oneof), "_v1.")
	_, name, _ = strings.Cut(name, "_")
	return name
}
