package fnapi

import (
	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/protobuf/encoding/protowire"
)

// This file is the only one that knows the fields which the SDKs use and the Go module's protos lack. They travel as unknown fields.
// Spec: beam_fn_api.proto of Beam 2.77, ProcessBundleRequest and StateKey.
const (
	fieldHasNoState     protowire.Number = 4  // ProcessBundleRequest.has_no_state
	fieldOnlyForKeys    protowire.Number = 5  // ProcessBundleRequest.only_bundle_for_keys
	fieldDataStreamID   protowire.Number = 6  // ProcessBundleRequest.data_stream_id
	fieldMultimapEntry  protowire.Number = 10 // StateKey.multimap_entries_user_state
	fieldEntryTransform protowire.Number = 1  // MultimapEntriesUserState.transform_id
	fieldEntryState     protowire.Number = 2  // .user_state_id
	fieldEntryWindow    protowire.Number = 3  // .window
	fieldEntryKey       protowire.Number = 4  // .key
)

// CapabilityNamedDataStreams is declared by harnesses that honour StartBundle.DataStreamID.
const CapabilityNamedDataStreams = "beam:protocol:named_data_streams:v1"

// CapabilityMultiCore is declared by SDKs whose harnesses process bundles in parallel.
// Spec: beam_runner_api.proto StandardProtocols.MULTI_CORE_BUNDLE_PROCESSING.
const CapabilityMultiCore = "beam:protocol:multi_core_bundle_processing:v1"

// setRequestExtras sets the fields of a ProcessBundleRequest that the protos lack.
func setRequestExtras(req *fnpb.ProcessBundleRequest, sb *StartBundle) {
	var b []byte
	if sb.HasNoState {
		b = protowire.AppendVarint(protowire.AppendTag(b, fieldHasNoState, protowire.VarintType), 1)
	}
	if sb.OnlyBundleForKeys {
		b = protowire.AppendVarint(protowire.AppendTag(b, fieldOnlyForKeys, protowire.VarintType), 1)
	}
	if sb.DataStreamID != "" {
		b = protowire.AppendString(protowire.AppendTag(b, fieldDataStreamID, protowire.BytesType), sb.DataStreamID)
	}
	if len(b) > 0 {
		req.ProtoReflect().SetUnknown(b)
	}
}

// DataStreamID returns the data stream that a ProcessBundleRequest names, "" for the default one.
func DataStreamID(req *fnpb.ProcessBundleRequest) string {
	var id string
	_ = fields(req.ProtoReflect().GetUnknown(), func(num protowire.Number, v []byte, _ uint64) error {
		if num == fieldDataStreamID {
			id = string(v)
		}
		return nil
	})
	return id
}

// MultimapEntriesKey is StateKey.multimap_entries_user_state: all entries of a multimap state cell.
type MultimapEntriesKey struct {
	Transform string
	State     string
	Window    []byte
	Key       []byte
}

// MultimapEntries returns the multimap_entries_user_state arm of a state key, and whether the key is one.
func MultimapEntries(key *fnpb.StateKey) (MultimapEntriesKey, bool) {
	var k MultimapEntriesKey
	if key.GetType() != nil {
		return k, false
	}
	found := false
	err := fields(key.ProtoReflect().GetUnknown(), func(num protowire.Number, v []byte, _ uint64) error {
		if num != fieldMultimapEntry {
			return nil
		}
		found = true
		return fields(v, func(num protowire.Number, v []byte, _ uint64) error {
			switch num {
			case fieldEntryTransform:
				k.Transform = string(v)
			case fieldEntryState:
				k.State = string(v)
			case fieldEntryWindow:
				k.Window = v
			case fieldEntryKey:
				k.Key = v
			}
			return nil
		})
	})
	return k, found && err == nil
}
