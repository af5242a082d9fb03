package kafka

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"

	"padstone/connector/kafka/config"
	"padstone/internal/fault"
)

func TestParseJAAS(t *testing.T) {
	const module = "org.apache.kafka.common.security.plain.PlainLoginModule"
	for _, tc := range []struct {
		text string
		want map[string]string // nil: an error
	}{
		{module + ` required username="u" password="p";`, map[string]string{"username": "u", "password": "p"}},
		{module + "\n  required\n  username = 'u u'\n  password='a\"b\\'c';  ", map[string]string{"username": "u u", "password": `a"b'c`}},
		{module + ` required username=u;`, map[string]string{"username": "u"}},
		{module + ` required;`, map[string]string{}},
		{module + ` required username="u" password="p"`, nil},
		{module + ` username="u";`, nil},
		{module + ` required username="u password=p;`, nil},
		{module + ` required username "u";`, nil},
		{module + ` required a="b"; other required;`, nil},
		{``, nil},
	} {
		got, err := parseJAAS(tc.text)
		switch {
		case tc.want == nil:
			if err == nil {
				t.Errorf("%s: no error", tc.text)
			} else if strings.Contains(err.Error(), "password=p") {
				t.Errorf("the error shows the password: %v", err)
			}
		case err != nil || got.module != module || !reflect.DeepEqual(got.options, tc.want):
			t.Errorf("%s: got %v, %v", tc.text, got, err)
		}
	}
}

func saslProperties(mechanism, module, user, password string) map[string]string {
	return map[string]string{
		"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": mechanism,
		"sasl.jaas.config": "org.apache.kafka.common.security." + module + ` required username="` + user + `" password="` + password + `";`,
	}
}

func TestSASL(t *testing.T) {
	const plainModule, scramModule = "plain.PlainLoginModule", "scram.ScramLoginModule"
	f := newFixture(t, map[string]int32{"in": 1}, kfake.EnableSASL(), kfake.Superuser("PLAIN", "ann", "a"),
		kfake.Superuser("SCRAM-SHA-256", "bob", "b"), kfake.Superuser("SCRAM-SHA-512", "cid", "c"))
	// The embedded broker only hangs up on a wrong password; a real one says so first.
	f.broker.Cluster().ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f.broker.Cluster().KeepControl()
		auth := req.(*kmsg.SASLAuthenticateRequest)
		if !strings.Contains(string(auth.SASLAuthBytes), "wrong") {
			return nil, nil, false
		}
		resp := auth.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
		return resp, nil, true
	})
	for _, tc := range []struct {
		given map[string]string
		code  fault.Code
	}{
		{saslProperties("PLAIN", plainModule, "ann", "a"), ""},
		{saslProperties("SCRAM-SHA-256", scramModule, "bob", "b"), ""},
		{saslProperties("SCRAM-SHA-512", scramModule, "cid", "c"), ""},
		{saslProperties("PLAIN", plainModule, "dan", "wrong"), codeAuth},
		{saslProperties("SCRAM-SHA-256", plainModule, "bob", "b"), codeProperty},
		{saslProperties("PLAIN", plainModule, "", "a"), codeProperty},
		{saslProperties("GSSAPI", plainModule, "ann", "a"), codeProperty},
	} {
		cfg := f.read("in")
		for k, v := range tc.given {
			cfg.Consumer[k] = v
		}
		src, _ := Registry(zap.NewNop()).Source(config.ReadURN)
		r, err := src.Open(f.ctx, encodeConfig(t, cfg), nil)
		if tc.code == "" {
			if err != nil {
				t.Errorf("%v: %v", tc.given, err)
				continue
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		if got := fault.Of(err); got == nil || got.Code != tc.code {
			t.Errorf("%v: got %v", tc.given, err)
		}
	}
}

// authority makes certificates for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert, a.key, a.pem, _ = a.sign(template)
	return a
}

// sign returns the certificate with its key, both also as PEM.
func (a *authority) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey, string, string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

func TestTLS(t *testing.T) {
	ca := newAuthority(t)
	leaf := func(name string, ips ...net.IP) (string, string) {
		_, _, cert, key := ca.sign(&x509.Certificate{
			SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), IPAddresses: ips,
			DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		})
		return cert, key
	}
	server := func(ips ...net.IP) *tls.Config {
		certPEM, keyPEM := leaf("broker.test", ips...)
		pair, err := tls.X509KeyPair([]byte(certPEM), []byte(keyPEM))
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AddCert(ca.cert)
		return &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	}
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	clientCert, clientKey := leaf("client")
	trust, store := file("ca.pem", ca.pem), file("client.pem", clientCert+clientKey)
	good := newFixture(t, map[string]int32{"in": 1}, kfake.TLS(server(net.IPv4(127, 0, 0, 1))))
	misnamed := newFixture(t, map[string]int32{"in": 1}, kfake.TLS(server()))
	base := map[string]string{"security.protocol": "SSL", "ssl.truststore.location": trust, "ssl.keystore.location": store}
	for _, tc := range []struct {
		name   string
		f      *fixture
		change map[string]string
		code   fault.Code
		text   string
	}{
		{"files", good, nil, "", ""},
		{"types and versions", good, map[string]string{
			"ssl.truststore.type": "PEM", "ssl.keystore.type": "PEM", "ssl.protocol": "TLSv1.3", "ssl.enabled.protocols": "TLSv1.2,TLSv1.3",
		}, "", ""},
		{"inline", good, map[string]string{
			"ssl.truststore.location": "", "ssl.truststore.certificates": ca.pem, "ssl.keystore.location": "",
			"ssl.keystore.certificate.chain": clientCert, "ssl.keystore.key": clientKey,
		}, "", ""},
		{"separate files", good, map[string]string{
			"ssl.keystore.location": "", "ssl.certificate.location": store, "ssl.key.location": store,
		}, "", ""},
		{"another name", misnamed, nil, codeUnreachable, "127.0.0.1"},
		{"another name, not compared", misnamed, map[string]string{"ssl.endpoint.identification.algorithm": ""}, "", ""},
		{"unknown authority", good, map[string]string{
			"ssl.truststore.location": "", "ssl.truststore.certificates": newAuthority(t).pem,
		}, codeUnreachable, "x509"},
		{"unknown authority, name not compared", misnamed, map[string]string{
			"ssl.truststore.location": "", "ssl.truststore.certificates": newAuthority(t).pem, "ssl.endpoint.identification.algorithm": "",
		}, codeUnreachable, "x509"},
		{"JKS", good, map[string]string{"ssl.truststore.location": "trust.jks"}, codeProperty, "type JKS is not supported"},
		{"PKCS12", good, map[string]string{"ssl.keystore.type": "PKCS12"}, codeProperty, "type PKCS12 is not supported"},
		{"password", good, map[string]string{"ssl.truststore.password": "x"}, codeProperty, "only PEM"},
		{"no file", good, map[string]string{"ssl.truststore.location": filepath.Join(dir, "none.pem")}, codeProperty, "none.pem"},
		{"no certificate", good, map[string]string{"ssl.truststore.location": file("empty.pem", "x")}, codeProperty, "no PEM certificate"},
		{"no key", good, map[string]string{"ssl.keystore.location": trust}, codeProperty, "client certificate"},
		{"old protocol", good, map[string]string{"ssl.protocol": "TLSv1.1"}, codeProperty, "ssl.protocol"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cfg := tc.f.read("in")
			for _, m := range []map[string]string{base, tc.change} {
				for k, v := range m {
					cfg.Consumer[k] = v
					if v == "" && k != "ssl.endpoint.identification.algorithm" {
						delete(cfg.Consumer, k)
					}
				}
			}
			src, _ := Registry(zap.NewNop()).Source(config.ReadURN)
			r, err := src.Open(t.Context(), encodeConfig(t, cfg), nil)
			if tc.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got := fault.Of(err); got == nil || got.Code != tc.code || !strings.Contains(err.Error(), tc.text) {
				t.Fatalf("got %v", err)
			}
		})
	}
}
