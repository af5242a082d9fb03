package kafka

import (
	"errors"
	"strings"
)

// login is one entry of a JAAS configuration.
type login struct {
	module  string
	options map[string]string
}

// parseJAAS reads `<module> required key="value" …;`. Values are quoted with " or ', with \ as escape, or bare words. Errors never
// quote the text: it holds a password. Spec: javax.security.auth.login.Configuration, KIP-85.
func parseJAAS(text string) (login, error) {
	words, err := jaasWords(text)
	if err != nil {
		return login{}, err
	}
	if len(words) < 3 || words[len(words)-1] != ";" {
		return login{}, errors.New("must be `<login module> required <option>=\"<value>\" …;`")
	}
	out := login{module: words[0], options: map[string]string{}}
	switch words[1] {
	case "required", "requisite", "sufficient", "optional":
	default:
		return login{}, errors.New("needs required after the login module")
	}
	for rest := words[2 : len(words)-1]; len(rest) > 0; rest = rest[3:] {
		if len(rest) < 3 || rest[1] != "=" || rest[0] == ";" || rest[2] == ";" {
			return login{}, errors.New("must have options of the form name=\"value\" and one login module only")
		}
		out.options[rest[0]] = rest[2]
	}
	return out, nil
}

// jaasWords splits into words, quoted strings without their quotes, "=" and ";".
func jaasWords(text string) ([]string, error) {
	var words []string
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimLeft(text, " \t\r\n") {
		switch c := text[0]; c {
		case '=', ';':
			words, text = append(words, string(c)), text[1:]
		case '"', '\'':
			word, rest, err := jaasQuoted(text[1:], c)
			if err != nil {
				return nil, err
			}
			words, text = append(words, word), rest
		default:
			end := strings.IndexAny(text, " \t\r\n=;\"'")
			if end < 0 {
				end = len(text)
			}
			words, text = append(words, text[:end]), text[end:]
		}
	}
	return words, nil
}

func jaasQuoted(text string, quote byte) (word, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		case text[i] == quote:
			return b.String(), text[i+1:], nil
		default:
			b.WriteByte(text[i])
		}
	}
	return "", "", errors.New("has an unclosed quote")
}
