/* The `cairn` command: parses, dispatches, and sees to it that what was printed arrived. */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/command.h"
#include "tools/commands.h"
#include "tools/failure.h"
#include "tools/mount_helper.h"

/* Descriptors 0 to 2 must be taken, or a file of the store would get one of their numbers and
 * messages would be written into it.  Open for reading, so that writing fails as it should. */
static void guard_standard_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDONLY) != fd)
			_exit(1);
}

static int run(struct invocation *invocation)
{
	if (invocation->version)
		return cmd_version(invocation);
	if (invocation->help && invocation->command) {
		help_command(invocation->command);
		return 0;
	}
	if (invocation->help && invocation->argument_count == 1) {
		help_group(invocation->arguments[0]);
		return 0;
	}
	if (invocation->help) {
		help_overview();
		return 0;
	}
	if (!invocation->command)
		return usage_error(invocation, "what shall be done?");
	return invocation->command->run(invocation);
}

/* A result that did not arrive is a failure, whatever the command says. */
static int check_stdout(int code)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	warning("cannot write to standard output: %s", strerror(errno ? errno : EIO));
	return code ? code : 1;
}

int main(int argc, char **argv)
{
	struct invocation invocation;
	const char *base;
	int code;

	guard_standard_descriptors();
	/* Some callers ignore it: then nobody could wait for fusermount3. */
	signal(SIGCHLD, SIG_DFL);
	setlocale(LC_CTYPE, "");
	if (argc < 1)
		return 2;
	base = strrchr(argv[0], '/');
	if (mount_helper(base ? base + 1 : argv[0], argc, argv, &code))
		return check_stdout(code);
	code = invocation_parse(argc, argv, &invocation);
	if (code == 0)
		code = run(&invocation);
	invocation_release(&invocation);
	return check_stdout(code);
}
