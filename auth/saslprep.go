package auth

// saslPrep prepares a password for PBKDF2.
func saslPrep(password string) string { return password }
