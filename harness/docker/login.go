package docker

import (
	"context"
	"io"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/config"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"
)

// hubKey is where the docker command keeps the password of Docker's own registry. Spec: docker cli registry.IndexServer.
const hubKey = "https://index.docker.io/v1/"

// password returns what the server's user has logged in to the image's registry with by `docker login`, for the API; "" when nothing is
// known. A helper that keeps passwords may be another program, which is not waited for longer than ctx.
func password(ctx context.Context, image string) string {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return ""
	}
	key := reference.Domain(named)
	if key == "docker.io" {
		key = hubKey
	}
	found := make(chan string, 1)
	go func() {
		stored, err := config.LoadDefaultConfigFile(io.Discard).GetAuthConfig(key)
		if err != nil || stored.Username == "" && stored.IdentityToken == "" && stored.RegistryToken == "" {
			found <- ""
			return
		}
		encoded, err := authconfig.Encode(registry.AuthConfig{
			Username: stored.Username, Password: stored.Password, Auth: stored.Auth,
			ServerAddress: stored.ServerAddress, IdentityToken: stored.IdentityToken, RegistryToken: stored.RegistryToken,
		})
		if err != nil {
			encoded = ""
		}
		found <- encoded
	}()
	select {
	case encoded := <-found:
		return encoded
	case <-ctx.Done():
		return ""
	}
}
