// Package option reads pipeline options as SDKs send them: beam:option:NAME:v1, of any type that JSON has.
//
// Spec: python PipelineOptions.to_struct_message; java PipelineOptionsTranslation.
package option
