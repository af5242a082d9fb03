package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// partBytes is the part of an upload in parts; a bucket takes 10 000 of them.
const partBytes = 8 << 20

// requestsMax is how often a request is sent that fails for no fault of its own. The next checkpoint tries again anyway.
const requestsMax = 4

// metadataFor bounds the question for credentials of the machine's own role, to which nobody may answer.
const metadataFor = 3 * time.Second

// s3Blobs is a prefix in a bucket.
type s3Blobs struct {
	client *minio.Client
	bucket string
	prefix string // "" or "some/prefix/"
}

// openS3 reads s3://bucket/prefix with the parameters endpoint (a URL or host:port; AWS by default), region, and path_style (true or
// false; by default what the endpoint is known for). Credentials come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
// AWS_SESSION_TOKEN, else from ~/.aws/credentials, else from the machine's or pod's role. Nothing is asked of the bucket.
func openS3(_ context.Context, u *url.URL) (Blobs, error) {
	if u.User != nil {
		return nil, badURL(u.Redacted(), "has credentials in it; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead")
	}
	if u.Host == "" {
		return nil, badURL(u.String(), "names no bucket")
	}
	query := u.Query()
	for name := range query {
		if name != "endpoint" && name != "region" && name != "path_style" {
			return nil, badURL(u.String(), fmt.Sprintf("has the unknown parameter %q", name))
		}
	}
	endpoint := firstOf(query.Get("endpoint"), os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"))
	host, secure, err := splitEndpoint(endpoint)
	if err != nil {
		return nil, badURL(u.String(), err.Error())
	}
	lookup := minio.BucketLookupAuto
	if text := query.Get("path_style"); text != "" {
		on, err := strconv.ParseBool(text)
		if err != nil {
			return nil, badURL(u.String(), "has a path_style that is neither true nor false")
		}
		lookup = minio.BucketLookupDNS
		if on {
			lookup = minio.BucketLookupPath
		}
	}
	client, err := minio.New(host, &minio.Options{
		Creds: s3Credentials(endpoint == ""), Secure: secure, BucketLookup: lookup, MaxRetries: requestsMax,
		Region: firstOf(query.Get("region"), os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"), "us-east-1"),
	})
	if err != nil {
		return nil, badURL(u.String(), "cannot be used: "+err.Error())
	}
	client.SetAppInfo("padstone", "")
	prefix := strings.Trim(u.Path, "/")
	if prefix != "" {
		prefix += "/"
	}
	return &s3Blobs{client: client, bucket: u.Host, prefix: prefix}, nil
}

// s3Credentials asks in the usual order. Roles are asked for only where there may be any: at AWS, or where the variables say so.
func s3Credentials(aws bool) *credentials.Credentials {
	chain := []credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}}
	for _, name := range []string{
		"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
	} {
		aws = aws || os.Getenv(name) != ""
	}
	if aws {
		chain = append(chain, &credentials.IAM{Client: &http.Client{Timeout: metadataFor}})
	}
	return credentials.NewChainCredentials(chain)
}

// splitEndpoint takes a URL or host:port; TLS unless the URL says http.
func splitEndpoint(endpoint string) (host string, secure bool, err error) {
	if endpoint == "" {
		return "s3.amazonaws.com", true, nil
	}
	if !strings.Contains(endpoint, "://") {
		return endpoint, true, nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", false, errors.New("has an endpoint that is neither host:port nor http(s)://host:port")
	}
	return u.Host, u.Scheme == "https", nil
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// put holds no more than a part in memory. Each part is checked by its MD5 when it arrives; the signature covers the headers alone,
// since not everything that speaks S3 knows signed chunks.
func (s *s3Blobs) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	_, err := s.client.PutObject(ctx, s.bucket, s.prefix+name, r, size, minio.PutObjectOptions{
		ContentType: "application/octet-stream", PartSize: partBytes, NumThreads: 1, SendContentMd5: true, DisableContentSha256: true,
	})
	return err
}

func (s *s3Blobs) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	o, err := s.client.GetObject(ctx, s.bucket, s.prefix+name, minio.GetObjectOptions{})
	if err != nil {
		return nil, err
	}
	if _, err := o.Stat(); err != nil { // only now the request is sent
		if isNoSuchKey(err) {
			err = ErrNotFound
		}
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

func (s *s3Blobs) List(ctx context.Context, dir string, fn func(Blob) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the listing's goroutine
	prefix := s.prefix + dir + "/"
	for o := range s.client.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: prefix}) {
		if o.Err != nil {
			return o.Err
		}
		name := strings.TrimPrefix(o.Key, prefix)
		b := Blob{Name: path.Clean(name), Size: o.Size, Modified: o.LastModified, Dir: strings.HasSuffix(name, "/")}
		if name == "" {
			continue // a marker of the directory itself
		}
		if err := fn(b); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (s *s3Blobs) Remove(ctx context.Context, name string) error {
	err := s.client.RemoveObject(ctx, s.bucket, s.prefix+name, minio.RemoveObjectOptions{})
	if isNoSuchKey(err) {
		return nil
	}
	return err
}

func isNoSuchKey(err error) bool {
	return err != nil && minio.ToErrorResponse(err).Code == minio.NoSuchKey
}
