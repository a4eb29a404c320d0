# The shell of the guest: each line from the test is a command; what it prints goes back, and then its exit code.
port=$(echo /dev/vport*p1)
exec 0<>"$port" >&0 2>&1
while read -r line; do
    eval "$line"
    echo "ended with $?"
done
