package main

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// switchUser gives the process the user and the groups of the named user for
// good. Without a name, or as that user already, it does nothing.
func switchUser(name string) error {
	if name == "" {
		return nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return fmt.Errorf("could not find user '%s': %w", name, err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return fmt.Errorf("user '%s' has the id %s, which is no number", name, u.Uid)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return fmt.Errorf("user '%s' has the group %s, which is no number", name, u.Gid)
	}
	if os.Getuid() == uid && os.Geteuid() == uid {
		return nil
	}
	if os.Getuid() == 0 {
		if err := syscall.Setgroups(groups(u, gid)); err != nil {
			return fmt.Errorf("failed to reset groups: %w", err)
		}
	}
	if err := syscall.Setgid(gid); err != nil {
		return fmt.Errorf("failed to assume identity of user '%s': setgid: %w", name, err)
	}
	if err := syscall.Setuid(uid); err != nil {
		return fmt.Errorf("failed to assume identity of user '%s': setuid: %w", name, err)
	}
	return nil
}

// groups are all the groups of u, so that it can read what it could read after
// a login. PgBouncer keeps the primary group alone.
func groups(u *user.User, primary int) []int {
	all := []int{primary}
	ids, err := u.GroupIds()
	if err != nil {
		return all
	}
	for _, id := range ids {
		if gid, err := strconv.Atoi(id); err == nil && gid != primary {
			all = append(all, gid)
		}
	}
	return all
}
