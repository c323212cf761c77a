package auth

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Verifiers remembers what PBKDF2 made of plain-text secrets, so that only the
// first login pays for it: in both directions, clients' and servers'. It is
// bounded, drops what was not used for longest, and holds digests only, never
// a password. It may be used by all goroutines.
//
// The first SCRAM login to a plain-text secret is slower than all others,
// those of unknown users among them. A mock that took as long would let anyone
// keep a core busy with made-up names.
type Verifiers struct {
	nonce [sha256.Size]byte // random for each process: keys salts and digests
	known *lru.Cache[key, *derivation]
}

// derivation is the one run of PBKDF2 for a digest. Whoever comes while it is
// under way waits for it.
type derivation struct {
	once sync.Once
	keys atomic.Pointer[Keys]
}

// NewVerifiers makes a cache for size secrets. random is read during the call
// only.
func NewVerifiers(size int, random io.Reader) *Verifiers {
	known, err := lru.New[key, *derivation](max(size, 1))
	if err != nil {
		panic("BUG: " + err.Error())
	}
	v := &Verifiers{known: known}
	mustRead(random, v.nonce[:])
	return v
}

// Lookup returns the verifier for a client that logs in as user by SCRAM. ok
// is false if and only if the secret is plain text whose keys are not known
// yet: then Derive gives it, in a chore. A secret that no SCRAM proof fits
// (none, MD5) has a mock verifier, like an unknown user.
//
// iterations is PgBouncer's scram_iterations, for secrets that don't have a
// count of their own. It must be positive.
func (v *Verifiers) Lookup(user string, s Secret, iterations int) (verifier *Verifier, ok bool) {
	switch s.kind {
	case KindSCRAM:
		return s.verifier, true
	case KindPlain:
		d, ok := v.known.Get(v.digest(s.text, v.salt(user), iterations))
		if !ok {
			return nil, false
		}
		k := d.keys.Load()
		if k == nil {
			return nil, false
		}
		return &k.Verifier, true
	}
	return v.mock(user, iterations), true
}

// Derive is Lookup that takes the time it needs: milliseconds for each
// thousand iterations. It runs in a chore. Calls for the same secret at the
// same time share one derivation.
func (v *Verifiers) Derive(user string, s Secret, iterations int) *Verifier {
	if s.kind == KindPlain {
		return &v.keys(s.text, v.salt(user), iterations).Verifier
	}
	verifier, _ := v.Lookup(user, s, iterations)
	return verifier
}

// Fingerprint tells what was tried from what was not, without telling what it
// was: it is keyed with randomness of this process.
func (v *Verifiers) Fingerprint(database, user string, password Secret) [sha256.Size]byte {
	var n [16]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(database)))
	binary.BigEndian.PutUint64(n[8:], uint64(len(user)))
	return mac(v.nonce[:], "tried\x00", string(n[:]), database, user, password.text)
}

// keys returns the keys of password under salt, derived now or earlier. A nil
// v derives always.
func (v *Verifiers) keys(password, salt string, iterations int) *Keys {
	if v == nil {
		return deriveKeys(password, salt, iterations)
	}
	digest := v.digest(password, salt, iterations)
	d, ok := v.known.Get(digest)
	if !ok {
		d = new(derivation)
		if other, raced, _ := v.known.PeekOrAdd(digest, d); raced {
			d = other
		}
	}
	d.once.Do(func() { d.keys.Store(deriveKeys(password, salt, iterations)) })
	return d.keys.Load()
}

// forget forgets the keys of password under salt.
func (v *Verifiers) forget(password, salt string, iterations int) {
	if v != nil {
		v.known.Remove(v.digest(password, salt, iterations))
	}
}

// mock is a verifier that no password fits. Salt and iteration count are those
// that user would have with a plain-text secret, so that they don't tell.
func (v *Verifiers) mock(user string, iterations int) *Verifier {
	return &Verifier{
		salt:       v.salt(user),
		iterations: iterations,
		storedKey:  mac(v.nonce[:], "mock\x00", user),
		mock:       true,
	}
}

// salt is the salt of user's plain-text secret, real or not: the same for the
// life of the process, whatever the cache forgets.
func (v *Verifiers) salt(user string) string {
	h := sha256.New()
	io.WriteString(h, user)
	h.Write(v.nonce[:])
	var sum key
	return string(h.Sum(sum[:0])[:16])
}

// digest names a derivation in the cache.
func (v *Verifiers) digest(password, salt string, iterations int) key {
	var n [16]byte
	binary.BigEndian.PutUint64(n[:], uint64(iterations))
	binary.BigEndian.PutUint64(n[8:], uint64(len(salt)))
	return mac(v.nonce[:], string(n[:]), salt, password)
}
