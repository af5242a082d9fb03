package config

import (
	"padstone/internal/fault"
)

// Format says how the bytes of a Kafka key or value stand for a value.
type Format string

// The formats, by the (de)serializer of Kafka's Java client that they follow.
const (
	Bytes   Format = "bytes"   // ByteArray(De)serializer: the bytes themselves
	String  Format = "string"  // String(De)serializer: UTF-8
	Int16   Format = "int16"   // Short(De)serializer: 2 bytes, big endian
	Int32   Format = "int32"   // Integer(De)serializer: 4 bytes, big endian
	Int64   Format = "int64"   // Long(De)serializer: 8 bytes, big endian
	Float32 Format = "float32" // Float(De)serializer: 4 bytes, IEEE 754, big endian
	Float64 Format = "float64" // Double(De)serializer: 8 bytes, IEEE 754, big endian
)

// Coder is the Beam coder of a value in a Format.
type Coder string

// The coders that the formats use, by the last part of their URN beam:coder:X:v1.
const (
	BytesCoder  Coder = "bytes"
	StringCoder Coder = "string_utf8"
	VarintCoder Coder = "varint"
	DoubleCoder Coder = "double"
)

// serialization is the Java package of Kafka's own serializers.
const serialization = "org.apache.kafka.common.serialization."

// stem returns the format of a class of Kafka's own that is called <stem>Serializer or <stem>Deserializer.
func stem(name string) (Format, bool) {
	switch name {
	case "ByteArray":
		return Bytes, true
	case "String":
		return String, true
	case "Short":
		return Int16, true
	case "Integer":
		return Int32, true
	case "Long":
		return Int64, true
	case "Float":
		return Float32, true
	case "Double":
		return Float64, true
	}
	return "", false
}

// Deserializer returns the format of a Java deserializer class, for example
// "org.apache.kafka.common.serialization.LongDeserializer"; otherwise an error with code kafka-deserializer.
func Deserializer(class string) (Format, error) {
	return formatOf(class, "Deserializer", "kafka-deserializer")
}

// Serializer returns the format of a Java serializer class; otherwise an error with code kafka-serializer.
func Serializer(class string) (Format, error) {
	return formatOf(class, "Serializer", "kafka-serializer")
}

func formatOf(class, suffix string, code fault.Code) (Format, error) {
	if len(class) > len(serialization)+len(suffix) && class[:len(serialization)] == serialization &&
		class[len(class)-len(suffix):] == suffix {
		if f, ok := stem(class[len(serialization) : len(class)-len(suffix)]); ok {
			return f, nil
		}
	}
	return "", fault.New(fault.Pipeline, code, "%q is not supported", class).
		WithHint("use the ByteArray, String, Short, Integer, Long, Float or Double class of %s*%s, or bytes and a Map step",
			serialization, suffix)
}

// Coder returns the Beam coder of a value read in the format. Integers are varints of 64 bits and floats are doubles, whatever
// their width in Kafka: the coders that every SDK has.
func (f Format) Coder() (Coder, bool) {
	switch f {
	case Bytes:
		return BytesCoder, true
	case String:
		return StringCoder, true
	case Int16, Int32, Int64:
		return VarintCoder, true
	case Float32, Float64:
		return DoubleCoder, true
	}
	return "", false
}
