# What a host does when it is switched on. Run as the init of its PID namespace: boot.sh FOLDER HOST ADDRESS
#
# /tmp and /home are shared by all hosts, as on a parallel file system. /run and /dev/shm belong to this host alone, and
# /run/local stands for its own disk.
set -e
folder=$1 host=$2 address=$3
read -r pid _ </run/machine/self/stat # as the machine sees it

hostname "$host"
for place in /run /dev/shm; do mount -t tmpfs -o mode=755 tmpfs $place; done
chmod 1777 /dev/shm
mkdir -p /run/sshd /run/lock /run/user
mkdir -m 1777 /run/local
echo "$host" >/run/hostname
[ ! -e /etc/hostname ] || mount --bind /run/hostname /etc/hostname
mount --bind "$folder/hosts" /etc/hosts
mount --bind "$folder/ssh_config" /etc/ssh/ssh_config
# The user's own keys and start-up files stay out: a login shell here is quick and has a bare PATH, as on many sites.
[ ! -e ~/.ssh ] || mount -t tmpfs -o mode=700 tmpfs ~/.ssh
for file in ~/.bashrc ~/.bash_profile ~/.profile; do [ ! -e "$file" ] || mount --bind /dev/null "$file"; done

ip -batch - <<X
link set lo up
addr add $address/24 dev eth0
link set eth0 up
X
/usr/sbin/sshd -f "$folder/sshd_config" -E "$folder/$host/sshd.log"
[ ! -e "$folder/$host/boot" ] || . "$folder/$host/boot" # what else this host runs

echo "$pid" >"$folder/$host/pid.new"
mv "$folder/$host/pid.new" "$folder/$host/pid"
# SIGCHLD is ignored so that the kernel reaps what is orphaned on this host.
exec env --ignore-signal=CHLD sleep infinity
