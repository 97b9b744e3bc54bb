// notation-sign signs an image with the libraries of the Notary Project and pushes the signature, as the notation
// command does. It makes the certificates itself, and adds the trusted one to a trust store.
package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/notaryproject/notation-core-go/signature"
	"github.com/notaryproject/notation-core-go/signature/cose"
	"github.com/notaryproject/notation-core-go/signature/jws"
	"github.com/notaryproject/notation-go/registry"
	"github.com/notaryproject/tspclient-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"
)

var (
	reference  = flag.String("ref", "", "the image: HOST/REPOSITORY:TAG or @DIGEST")
	keySpec    = flag.String("key", "ec-256", "rsa-2048, rsa-3072, rsa-4096, ec-256, ec-384 or ec-521")
	format     = flag.String("format", "jws", "jws or cose")
	store      = flag.String("store", "", "the folder of trust stores")
	name       = flag.String("name", "acme", "the trust store of type ca, or signingAuthority")
	selfSigned = flag.Bool("self-signed", false, "sign with a certificate that signed itself")
	authority  = flag.Bool("authority", false, "sign as a signing authority")
	fallback   = flag.Bool("fallback", false, "write the referrers tag, as for a registry without the referrers API")
	expiry     = flag.Duration("expiry", 0, "how long the signature is valid; negative: it has expired")
	lifetime   = flag.Duration("lifetime", time.Hour, "how long the certificate is valid")
	plugin     = flag.Bool("plugin", false, "require a verification plugin")
	crl        = flag.String("crl", "", "the URL of the revocation list in the signer's certificate")
	list       = flag.String("list", "", "write a revocation list of the signer's issuer to this file")
	revoked    = flag.Bool("revoked", false, "name the signer's certificate in that list")
	tsa        = flag.String("tsa", "", "a folder with tsa.cnf for openssl ts, and its root.pem: add a timestamp")
)

func main() {
	flag.Parse()
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	repository, err := remote.NewRepository(*reference)
	if err != nil {
		return err
	}
	repository.PlainHTTP = true
	if *fallback {
		if err := repository.SetReferrersCapability(false); err != nil {
			return err
		}
	}
	image, err := repository.Resolve(ctx, repository.Reference.Reference)
	if err != nil {
		return err
	}
	key, chain, issuer, err := makeChain()
	if err != nil {
		return err
	}
	if err := publish(chain, issuer); err != nil {
		return err
	}
	mediaType := map[string]string{"jws": jws.MediaTypeEnvelope, "cose": cose.MediaTypeEnvelope}[*format]
	blob, err := sign(image, mediaType, key, chain)
	if err != nil {
		return err
	}
	annotations := map[string]string{"io.cncf.notary.x509chain.thumbprint#S256": "[]"}
	_, manifest, err := registry.NewRepository(repository).PushSignature(ctx, mediaType, blob, image, annotations)
	if err != nil {
		return err
	}
	fmt.Println(manifest.Digest)
	return nil
}

func sign(image ocispec.Descriptor, mediaType string, key crypto.PrivateKey, chain []*x509.Certificate) ([]byte, error) {
	target := map[string]any{"mediaType": image.MediaType, "digest": image.Digest, "size": image.Size}
	payload, err := json.Marshal(map[string]any{"targetArtifact": target})
	if err != nil {
		return nil, err
	}
	signer, err := signature.NewLocalSigner(chain, key)
	if err != nil {
		return nil, err
	}
	now := time.Now().Truncate(time.Second)
	if *expiry < 0 {
		now = now.Add(2 * *expiry)
	}
	request := &signature.SignRequest{
		Payload:       signature.Payload{ContentType: "application/vnd.cncf.notary.payload.v1+json", Content: payload},
		Signer:        signer,
		SigningTime:   now,
		SigningScheme: signature.SigningSchemeX509,
		SigningAgent:  "notation-go/1.3.2",
	}
	if *authority {
		request.SigningScheme = signature.SigningSchemeX509SigningAuthority
	}
	if *expiry > 0 {
		request.Expiry = now.Add(*expiry)
	} else if *expiry < 0 {
		request.Expiry = now.Add(-*expiry)
	}
	if *plugin {
		request.ExtendedSignedAttributes = []signature.Attribute{
			{Key: "io.cncf.notary.verificationPlugin", Value: "com.example.plugin", Critical: true},
		}
	}
	if *tsa != "" {
		root, err := os.ReadFile(filepath.Join(*tsa, "root.pem"))
		if err != nil {
			return nil, err
		}
		request.TSARootCAs = x509.NewCertPool()
		request.TSARootCAs.AppendCertsFromPEM(root)
		request.Timestamper = openssl{*tsa}
	}
	envelope, err := signature.NewEnvelope(mediaType)
	if err != nil {
		return nil, err
	}
	return envelope.Sign(request)
}

// openssl is a timestamping authority: `openssl ts -reply`.
type openssl struct{ folder string }

func (tsa openssl) Timestamp(_ context.Context, request *tspclient.Request) (*tspclient.Response, error) {
	query, err := request.MarshalBinary()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(tsa.folder, "query.tsq"), query, 0o600); err != nil {
		return nil, err
	}
	command := exec.Command("openssl", "ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query.tsq")
	command.Dir = tsa.folder
	var failure bytes.Buffer
	command.Stderr = &failure
	reply, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("openssl ts: %w: %s", err, failure.String())
	}
	var response tspclient.Response
	if err := response.UnmarshalBinary(reply); err != nil {
		return nil, err
	}
	return &response, response.Validate(request)
}

type certificateIssuer struct {
	key         crypto.Signer
	certificate *x509.Certificate
}

// makeChain makes a root, an authority below it and a signer, or one certificate that signed itself.
func makeChain() (crypto.PrivateKey, []*x509.Certificate, *certificateIssuer, error) {
	key, err := makeKey(*keySpec)
	if err != nil {
		return nil, nil, nil, err
	}
	leaf := template("signer")
	leaf.KeyUsage = x509.KeyUsageDigitalSignature
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	leaf.NotAfter = time.Now().Add(*lifetime)
	if *crl != "" {
		leaf.CRLDistributionPoints = []string{*crl}
	}
	if *selfSigned {
		certificate, err := issue(leaf, key.Public(), &certificateIssuer{key, leaf})
		return key, []*x509.Certificate{certificate}, nil, err
	}
	root, err := makeAuthority("root", nil)
	if err != nil {
		return nil, nil, nil, err
	}
	below, err := makeAuthority("intermediate", root)
	if err != nil {
		return nil, nil, nil, err
	}
	certificate, err := issue(leaf, key.Public(), below)
	return key, []*x509.Certificate{certificate, below.certificate, root.certificate}, below, err
}

func makeAuthority(name string, issuer *certificateIssuer) (*certificateIssuer, error) {
	key, err := makeKey("ec-256")
	if err != nil {
		return nil, err
	}
	authority := template(name)
	authority.IsCA = true
	authority.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	if issuer == nil {
		issuer = &certificateIssuer{key, authority}
	}
	certificate, err := issue(authority, key.Public(), issuer)
	return &certificateIssuer{key, certificate}, err
}

func template(name string) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		panic(err)
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject: pkix.Name{
			Country: []string{"US"}, Province: []string{"WA"}, Organization: []string{"Acme, Inc."}, CommonName: name,
		},
		NotBefore:             time.Now().Add(-24 * time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		BasicConstraintsValid: true,
	}
}

func issue(template *x509.Certificate, key crypto.PublicKey, issuer *certificateIssuer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.certificate, key, issuer.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func makeKey(spec string) (crypto.Signer, error) {
	switch spec {
	case "rsa-2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "rsa-3072":
		return rsa.GenerateKey(rand.Reader, 3072)
	case "rsa-4096":
		return rsa.GenerateKey(rand.Reader, 4096)
	case "ec-256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ec-384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ec-521":
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	}
	return nil, fmt.Errorf("unknown key %q", spec)
}

// publish adds the last certificate of the chain to the trust store, and writes a revocation list.
func publish(chain []*x509.Certificate, issuer *certificateIssuer) error {
	kind := "ca"
	if *authority {
		kind = "signingAuthority"
	}
	folder := filepath.Join(*store, "x509", kind, *name)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	trusted := chain[len(chain)-1]
	file := filepath.Join(folder, fmt.Sprintf("%x.pem", trusted.SerialNumber))
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: trusted.Raw})
	if err := os.WriteFile(file, text, 0o644); err != nil || *list == "" {
		return err
	}
	content := &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour),
	}
	if *revoked {
		entry := x509.RevocationListEntry{SerialNumber: chain[0].SerialNumber, RevocationTime: time.Now(), ReasonCode: 1}
		content.RevokedCertificateEntries = []x509.RevocationListEntry{entry}
	}
	der, err := x509.CreateRevocationList(rand.Reader, content, issuer.certificate, issuer.key)
	if err != nil {
		return err
	}
	return os.WriteFile(*list, der, 0o644)
}
