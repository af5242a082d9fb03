// Package urn names the URNs of the Beam model that Padstone acts on.
//
// They are constants so that a switch over them is checked by the compiler; a test derives every one of them from the options of
// the model's protos and fails when they differ. URNs of our own begin with "padstone:". No behaviour, no state.
//
// Spec: beam_runner_api.proto, the beam_urn options of the Standard… enums.
package urn
