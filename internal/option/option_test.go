package option

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"
)

func TestTexts(t *testing.T) {
	options, err := structpb.NewStruct(map[string]any{
		"beam:option:list:v1": []any{"a", "", 3, true}, "beam:option:one:v1": "a b", "beam:option:large:v1": 3e9, "beam:option:none:v1": nil,
		"beam:option:empty:v1": "", "bare": "x",
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"list": {"a", "3"}, "one": {"a b"}, "large": {"3000000000"}, "none": nil, "empty": nil, "bare": nil, "absent": nil,
	} {
		if got := Texts(options, name); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if Texts(nil, "list") != nil || Text(nil, "one") != "" {
		t.Error("options that are not there have a value")
	}
}

func TestSet(t *testing.T) {
	var options structpb.Struct
	Set(&options, "one", "a")
	if Text(&options, "one") != "a" || options.GetFields()["beam:option:one:v1"] == nil {
		t.Errorf("%v", &options)
	}
}
