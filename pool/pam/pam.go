//go:build pam && cgo

package pam

/*
#cgo LDFLAGS: -lpam
#include <stdlib.h>
#include <string.h>
#include <security/pam_appl.h>

// answer is what a module is told when it asks something: the password where
// it must not be shown, and the name of the user where it may.
struct answer { const char *user, *password; };

static int converse(int n, const struct pam_message **msgs, struct pam_response **out, void *data) {
	struct answer *a = data;
	struct pam_response *r;
	int i;

	if (n <= 0 || n > PAM_MAX_NUM_MSG || !(r = calloc(n, sizeof *r)))
		return PAM_CONV_ERR;
	for (i = 0; i < n; i++) {
		const char *text = NULL;
		switch (msgs[i]->msg_style) {
		case PAM_PROMPT_ECHO_OFF: text = a->password; break;
		case PAM_PROMPT_ECHO_ON:  text = a->user; break;
		}
		if (text && !(r[i].resp = strdup(text))) {
			while (i-- > 0)
				free(r[i].resp);
			free(r);
			return PAM_CONV_ERR;
		}
	}
	*out = r; // PAM frees it
	return PAM_SUCCESS;
}

// check returns PAM's code, and what it means in text.
static int check(const char *service, const char *confdir, const char *user, const char *password, const char *host, char **text) {
	struct answer a = { user, password };
	struct pam_conv conv = { converse, &a };
	pam_handle_t *h = NULL;
	int code;

#ifdef __LINUX_PAM__
	if (*confdir)
		code = pam_start_confdir(service, user, &conv, confdir, &h);
	else
#endif
		code = pam_start(service, user, &conv, &h);
	if (code == PAM_SUCCESS && *host)
		code = pam_set_item(h, PAM_RHOST, host);
	if (code == PAM_SUCCESS)
		code = pam_authenticate(h, PAM_SILENT);
	if (code == PAM_SUCCESS)
		code = pam_acct_mgmt(h, PAM_SILENT);
	*text = code == PAM_SUCCESS ? NULL : strdup(pam_strerror(h, code));
	if (h)
		pam_end(h, code);
	return code;
}
*/
import "C"

import (
	"errors"
	"strings"
	"unsafe"
)

// authenticate asks PAM by the rules of service, in confdir if that is not
// empty.
func authenticate(service, confdir, user, password, host string) error {
	var in [5]*C.char
	for i, s := range []string{service, confdir, user, password, host} {
		if strings.IndexByte(s, 0) >= 0 {
			return errors.New("a zero byte in a name or password")
		}
		in[i] = C.CString(s)
		defer C.free(unsafe.Pointer(in[i]))
	}
	defer C.memset(unsafe.Pointer(in[3]), 0, C.size_t(len(password)))
	var text *C.char
	code := C.check(in[0], in[1], in[2], in[3], in[4], &text)
	if code == C.PAM_SUCCESS {
		return nil
	}
	defer C.free(unsafe.Pointer(text))
	return errors.New(C.GoString(text))
}
