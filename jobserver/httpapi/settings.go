package httpapi

import (
	"encoding/json"
	"net/http"

	"padstone/internal/fault"
	"padstone/jobserver"
)

type settingsAnswer struct {
	Settings []jobserver.SettingDescription `json:"settings"`
}

// setJob changes settings of a job; the body has them by name. It answers when the change is durable.
func (h *handler) setJob(w http.ResponseWriter, r *http.Request) {
	var asked map[string]json.RawMessage
	err := read(w, r, &asked)
	values := make(map[string]string, len(asked))
	for name, raw := range asked {
		if err == nil {
			values[name], err = settingText(name, raw)
		}
	}
	var answer settingsAnswer
	if err == nil {
		answer.Settings, err = h.cfg.Server.Set(r.Context(), r.PathValue("id"), values)
	}
	if err != nil {
		h.fail(w, err)
		return
	}
	h.writeJSON(w, http.StatusOK, answer)
}

// settingText is a value as the executor reads it: of a number its digits, of null what takes a change back.
func settingText(name string, raw json.RawMessage) (string, error) {
	var text string
	var number json.Number
	switch {
	case string(raw) == "null":
		return jobserver.SettingDefault, nil
	case json.Unmarshal(raw, &text) == nil:
		return text, nil
	case json.Unmarshal(raw, &number) == nil:
		return number.String(), nil
	}
	return "", fault.New(fault.Pipeline, "invalid-request", "the value of %.100q is neither a number nor a string", name)
}
