package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"padstone/internal/fault"
)

// clientID is how we name ourselves to brokers unless client.id says otherwise.
const clientID = "padstone"

// dialTimeoutDefault is Kafka's socket.connection.setup.timeout.ms.
const dialTimeoutDefault = 10 * time.Second

// security collects the properties on TLS and SASL until all are known.
type security struct {
	protocol    string // security.protocol
	mechanism   string // sasl.mechanism
	jaas        string // sasl.jaas.config
	dialTimeout time.Duration

	trustType, keyType     string // ssl.truststore.type, ssl.keystore.type
	trustFile, trustPEM    string // ssl.truststore.location (or ssl.ca.location), ssl.truststore.certificates
	keyFile                string // ssl.keystore.location: certificate chain and key in one PEM file
	certFile, keyOnlyFile  string // ssl.certificate.location, ssl.key.location
	chainPEM, keyPEM       string // ssl.keystore.certificate.chain, ssl.keystore.key
	skipHostname           bool   // ssl.endpoint.identification.algorithm is empty
	tlsPropertyUsed        string // one of the above, for the error when TLS is off
	saslPropertyUsed       string
	storePasswordGiven     bool
	minVersion, maxVersion uint16
}

func securityProperties() map[string]property {
	set := func(name string, field func(*security) *string) property {
		return property{apply: func(s *settings, v string) error {
			*field(&s.security) = v
			if strings.HasPrefix(name, "ssl.") {
				s.security.tlsPropertyUsed = name
			} else {
				s.security.saslPropertyUsed = name
			}
			return nil
		}}
	}
	known := map[string]property{
		"security.protocol": oneOf(func(s *settings, v string) { s.security.protocol = v },
			"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
		"ssl.endpoint.identification.algorithm": {apply: func(s *settings, v string) error {
			if v != "" && v != "https" {
				return errValue("https or empty", v)
			}
			s.security.skipHostname = v == ""
			return nil
		}},
		"ssl.protocol":          {apply: setVersions},
		"ssl.enabled.protocols": {apply: setVersions},
		"ssl.truststore.password": {apply: func(s *settings, v string) error {
			s.security.storePasswordGiven = s.security.storePasswordGiven || v != ""
			return nil
		}},
		"ssl.keystore.password": {apply: func(s *settings, v string) error {
			s.security.storePasswordGiven = s.security.storePasswordGiven || v != ""
			return nil
		}},
		"ssl.provider":                     without("there is no JVM"),
		"ssl.keymanager.algorithm":         without("there is no JVM"),
		"ssl.trustmanager.algorithm":       without("there is no JVM"),
		"ssl.secure.random.implementation": without("there is no JVM"),
	}
	for name, field := range map[string]func(*security) *string{
		"sasl.mechanism":                 func(s *security) *string { return &s.mechanism },
		"sasl.jaas.config":               func(s *security) *string { return &s.jaas },
		"ssl.truststore.type":            func(s *security) *string { return &s.trustType },
		"ssl.truststore.location":        func(s *security) *string { return &s.trustFile },
		"ssl.truststore.certificates":    func(s *security) *string { return &s.trustPEM },
		"ssl.keystore.type":              func(s *security) *string { return &s.keyType },
		"ssl.keystore.location":          func(s *security) *string { return &s.keyFile },
		"ssl.keystore.certificate.chain": func(s *security) *string { return &s.chainPEM },
		"ssl.keystore.key":               func(s *security) *string { return &s.keyPEM },
		"ssl.ca.location":                func(s *security) *string { return &s.trustFile },
		"ssl.certificate.location":       func(s *security) *string { return &s.certFile },
		"ssl.key.location":               func(s *security) *string { return &s.keyOnlyFile },
	} {
		known[name] = set(name, field)
	}
	return known
}

func setVersions(s *settings, v string) error {
	versions := map[string]uint16{"TLSv1.2": tls.VersionTLS12, "TLSv1.3": tls.VersionTLS13}
	low, high := uint16(0), uint16(0)
	for name := range strings.SplitSeq(v, ",") {
		version, ok := versions[strings.TrimSpace(name)]
		if !ok {
			return errValue("a list of TLSv1.2 and TLSv1.3", v)
		}
		if low == 0 || version < low {
			low = version
		}
		high = max(high, version)
	}
	// ssl.protocol names the newest version that is wanted and ssl.enabled.protocols all: the narrower one counts.
	s.security.minVersion = max(s.security.minVersion, low)
	if s.security.maxVersion == 0 || high < s.security.maxVersion {
		s.security.maxVersion = high
	}
	return nil
}

// resolve turns the collected properties into options of the client.
func (c *security) resolve(s *settings) error {
	useTLS := c.protocol == "SSL" || c.protocol == "SASL_SSL"
	useSASL := strings.HasPrefix(c.protocol, "SASL_")
	if c.tlsPropertyUsed != "" && !useTLS {
		return fault.New(fault.Pipeline, codeProperty, "property %q needs security.protocol SSL or SASL_SSL", c.tlsPropertyUsed)
	}
	if c.saslPropertyUsed != "" && !useSASL {
		return fault.New(fault.Pipeline, codeProperty, "property %q needs security.protocol SASL_PLAINTEXT or SASL_SSL", c.saslPropertyUsed)
	}
	dialer := &net.Dialer{Timeout: c.dialTimeout}
	if dialer.Timeout == 0 {
		dialer.Timeout = dialTimeoutDefault
	}
	dial := dialer.DialContext
	if useTLS {
		conf, err := c.tls()
		if err != nil {
			return err
		}
		dial = func(ctx context.Context, network, host string) (net.Conn, error) {
			per := conf.Clone()
			if name, _, err := net.SplitHostPort(host); err == nil {
				per.ServerName = name
			}
			return (&tls.Dialer{NetDialer: dialer, Config: per}).DialContext(ctx, network, host)
		}
	}
	s.opts = append(s.opts, kgo.Dialer(dial))
	if useSASL {
		mechanism, err := c.sasl()
		if err != nil {
			return err
		}
		s.opts = append(s.opts, kgo.SASL(mechanism))
	}
	return nil
}

// sasl reads the user out of sasl.jaas.config. Spec: KIP-85.
func (c *security) sasl() (sasl.Mechanism, error) {
	plainLogin := "org.apache.kafka.common.security.plain.PlainLoginModule"
	scramLogin := "org.apache.kafka.common.security.scram.ScramLoginModule"
	module := map[string]string{"PLAIN": plainLogin, "SCRAM-SHA-256": scramLogin, "SCRAM-SHA-512": scramLogin}[c.mechanism]
	if module == "" {
		return nil, badProperty("sasl.mechanism", errValue("one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512", c.mechanism))
	}
	login, err := parseJAAS(c.jaas)
	if err != nil {
		return nil, badProperty("sasl.jaas.config", err)
	}
	if login.module != module {
		return nil, badProperty("sasl.jaas.config", errValue("the login module of mechanism "+c.mechanism+", "+module, login.module))
	}
	user, pass := login.options["username"], login.options["password"]
	if user == "" || pass == "" {
		return nil, fault.New(fault.Pipeline, codeProperty, "property \"sasl.jaas.config\" lacks username or password")
	}
	switch c.mechanism {
	case "PLAIN":
		return plain.Auth{User: user, Pass: pass}.AsMechanism(), nil
	case "SCRAM-SHA-256":
		return scram.Auth{User: user, Pass: pass}.AsSha256Mechanism(), nil
	default:
		return scram.Auth{User: user, Pass: pass}.AsSha512Mechanism(), nil
	}
}

// tls builds the configuration of TLS connections. Spec: KIP-651 for PEM stores.
func (c *security) tls() (*tls.Config, error) {
	if c.storePasswordGiven {
		return nil, fault.New(fault.Pipeline, codeProperty, "properties \"ssl.truststore.password\" and \"ssl.keystore.password\": "+
			"only PEM stores are supported, which have no password").WithHint("convert the store to PEM with keytool and openssl")
	}
	conf := &tls.Config{MinVersion: max(c.minVersion, tls.VersionTLS12), MaxVersion: c.maxVersion}
	roots, err := c.roots()
	if err != nil {
		return nil, err
	}
	conf.RootCAs = roots
	cert, err := c.certificate()
	if err != nil {
		return nil, err
	}
	if cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	if c.skipHostname {
		// The chain is still verified; only the name in it is not compared with the broker's, as an empty
		// ssl.endpoint.identification.algorithm asks.
		conf.InsecureSkipVerify = true
		conf.VerifyConnection = func(state tls.ConnectionState) error {
			opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
			for _, cert := range state.PeerCertificates[1:] {
				opts.Intermediates.AddCert(cert)
			}
			_, err := state.PeerCertificates[0].Verify(opts)
			return err
		}
	}
	return conf, nil
}

// roots returns the pool of the trust store, nil for the system's.
func (c *security) roots() (*x509.CertPool, error) {
	if c.trustFile == "" && c.trustPEM == "" {
		return nil, nil
	}
	if err := onlyPEM("ssl.truststore", c.trustType, c.trustFile); err != nil {
		return nil, err
	}
	data := []byte(c.trustPEM)
	if c.trustFile != "" {
		var err error
		if data, err = os.ReadFile(c.trustFile); err != nil {
			return nil, fault.New(fault.Pipeline, codeProperty, "property \"ssl.truststore.location\": %w", err)
		}
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fault.New(fault.Pipeline, codeProperty, "property \"ssl.truststore\": there is no PEM certificate in it")
	}
	return pool, nil
}

// certificate returns the client's own certificate, nil when none is configured.
func (c *security) certificate() (*tls.Certificate, error) {
	var cert tls.Certificate
	var err error
	switch {
	case c.keyFile != "":
		if err := onlyPEM("ssl.keystore", c.keyType, c.keyFile); err != nil {
			return nil, err
		}
		cert, err = tls.LoadX509KeyPair(c.keyFile, c.keyFile)
	case c.certFile != "" || c.keyOnlyFile != "":
		cert, err = tls.LoadX509KeyPair(c.certFile, c.keyOnlyFile)
	case c.chainPEM != "" || c.keyPEM != "":
		cert, err = tls.X509KeyPair([]byte(c.chainPEM), []byte(c.keyPEM))
	default:
		return nil, nil
	}
	if err != nil {
		return nil, fault.New(fault.Pipeline, codeProperty, "the client certificate of the ssl.* properties: %w", err).
			WithHint("give an unencrypted PEM key with its certificate chain")
	}
	return &cert, nil
}

// onlyPEM refuses a Java key store by name: its default type is JKS, so a location without a type is one unless it looks like PEM.
func onlyPEM(store, kind, file string) error {
	lower := strings.ToLower(file)
	looksPEM := strings.HasSuffix(lower, ".pem") || strings.HasSuffix(lower, ".crt") || strings.HasSuffix(lower, ".cer")
	if strings.EqualFold(kind, "PEM") || (kind == "" && (file == "" || looksPEM)) {
		return nil
	}
	if kind == "" {
		kind = "JKS"
	}
	return fault.New(fault.Pipeline, codeProperty, "property %q: a store of type %s is not supported", store+".type", kind).
		WithHint("convert the store to PEM and set %s.type=PEM", store)
}
